// Python's view of the CUDA kernels: sizes, addresses and a stream in, no tensors and no torch.
//
// The caller (fastrnn/recurrence/backends/cuda.py) owns and checks every array. Compiled with
// FASTRNN_EMULATED, this is the same module with kernels that run on the CPU, for tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cuda/kernels.h"
#include "cuda/lstm_cuda.h"

#if defined(FASTRNN_EMULATED)
#define FASTRNN_MODULE _cuda_emulated
#else
#define FASTRNN_MODULE _cuda
#endif

namespace py = pybind11;

namespace {

using namespace fastrnn::cuda;
using Address = std::uintptr_t;

void* pointer(Address address) { return reinterpret_cast<void*>(address); }

template <class T>
T* pointer_to(Address address) {
  return reinterpret_cast<T*>(address);
}

Precision precision_named(const std::string& name) {
  if (name == "float16") return Precision::half;
  if (name == "bfloat16") return Precision::bfloat16;
  if (name == "tf32") return Precision::tf32;
  if (name == "float32") return Precision::exact;
  throw std::invalid_argument("precision is '" + name +
                              "'; it should be 'float16', 'bfloat16', 'tf32' or 'float32'");
}

Problem problem_of(const std::string& precision, int64_t seq_len, int64_t batch_size,
                   int64_t input_size, int64_t hidden_size, int64_t num_directions, bool training) {
  return {precision_named(precision),
          seq_len,
          batch_size,
          input_size,
          hidden_size,
          num_directions,
          training};
}

ForwardArguments common(Address x, Address bias, Address share, Address weights, Address h_0,
                        Address order, Address lengths) {
  ForwardArguments arguments{};
  arguments.sorted = {pointer_to<const int64_t>(order), pointer_to<const int32_t>(lengths)};
  arguments.x = pointer(x);
  arguments.bias = pointer(bias);
  arguments.share = pointer(share);
  arguments.weights = pointer(weights);
  arguments.h_0 = pointer(h_0);
  return arguments;
}

void run_pack_forward(const Plan& plan, Address w_ih, Address w_hh, Address words, int device,
                      Address stream) {
  pack_forward(plan, pointer(w_ih), pointer(w_hh), pointer_to<uint32_t>(words),
               {device, pointer(stream)});
}

void run_pack_backward(const Plan& plan, Address w_hh, Address words, int device, Address stream) {
  pack_backward(plan, pointer(w_hh), pointer_to<uint32_t>(words), {device, pointer(stream)});
}

void run_forward(const Plan& plan, Address x, Address bias, Address share, Address weights,
                 Address h_0, Address c_0, Address order, Address lengths, Address y, Address h_n,
                 Address c_n, Address cells, int device, Address stream) {
  ForwardArguments arguments = common(x, bias, share, weights, h_0, order, lengths);
  arguments.c_0 = pointer(c_0);
  arguments.y = pointer(y);
  arguments.h_n = pointer(h_n);
  arguments.c_n = pointer(c_n);
  arguments.cells = pointer_to<float>(cells);
  forward(plan, arguments, {device, pointer(stream)});
}

void run_gates(const Plan& plan, Address x, Address bias, Address share, Address weights,
               Address h_0, Address order, Address lengths, Address y, Address gates_, int device,
               Address stream) {
  ForwardArguments arguments = common(x, bias, share, weights, h_0, order, lengths);
  arguments.y = pointer(y);
  arguments.gates = pointer(gates_);
  gates(plan, arguments, {device, pointer(stream)});
}

void run_backward(const Plan& plan, Address weights, Address gates_, Address cells, Address c_0,
                  Address order, Address lengths, Address grad_y, Address grad_h_n,
                  Address grad_c_n, Address grad_h_0, Address grad_c_0, Address grad_bias_tiles,
                  int device, Address stream) {
  BackwardArguments arguments{};
  arguments.sorted = {pointer_to<const int64_t>(order), pointer_to<const int32_t>(lengths)};
  arguments.weights = pointer(weights);
  arguments.gates = pointer(gates_);
  arguments.cells = pointer_to<const float>(cells);
  arguments.c_0 = pointer(c_0);
  arguments.grad_y = pointer(grad_y);
  arguments.grad_h_n = pointer(grad_h_n);
  arguments.grad_c_n = pointer(grad_c_n);
  arguments.grad_h_0 = pointer(grad_h_0);
  arguments.grad_c_0 = pointer(grad_c_0);
  arguments.grad_bias_tiles = pointer_to<float>(grad_bias_tiles);
  backward(plan, arguments, {device, pointer(stream)});
}

#if defined(FASTRNN_EMULATED)
void set_schedule(const std::string& name) {
  using fastrnn::gpu::emulator::Schedule;
  const auto schedule =
      name == "ascending"    ? Schedule::ascending
      : name == "descending" ? Schedule::descending
      : name == "shuffled"
          ? Schedule::shuffled
          : throw std::invalid_argument("schedule is '" + name +
                                        "'; it should be 'ascending', 'descending' or "
                                        "'shuffled'");
  fastrnn::gpu::emulator::set_schedule(schedule);
}
#endif

}  // namespace

PYBIND11_MODULE(FASTRNN_MODULE, m) {
  m.doc() = "LSTM kernels for GPUs; see csrc/cuda/arguments.h for the arrays they take.";
  m.attr("__version__") = FASTRNN_VERSION;
#if defined(FASTRNN_EMULATED)
  m.attr("device_type") = "cpu";
  m.def("driver_fault", [] { return ""; });
  m.def("device_fault", [](int) { return ""; });
  m.def("set_schedule", &set_schedule, py::arg("name"), "The order in which warps run.");
  m.def("set_first_block", &fastrnn::gpu::emulator::set_first_block, py::arg("x"),
        "Blocks before this one are left out.");
#else
  m.attr("device_type") = "cuda";
  m.def("driver_fault", &driver_fault, "Why no kernel can be launched here; empty if one can.");
  m.def(
      "device_fault",
      [](int device) {
        const auto kernel = find_pack_kernels(Precision::half).forward;
        return device_fault(device, reinterpret_cast<const void*>(kernel));
      },
      py::arg("device"), "Why a device cannot run this build's kernels; empty if it can.");
#endif
  m.attr("padded_sizes") = py::make_tuple(kPaddedSizes[0], kPaddedSizes[1], kPaddedSizes[2]);

  // Local to the module: beside it, tests load the emulated one, which has the same types.
  py::class_<Device>(m, "Device", py::module_local(), "What planning must know of a GPU.")
      .def(py::init<int, int, int, int>(), py::kw_only(), py::arg("major"), py::arg("minor"),
           py::arg("multiprocessors"), py::arg("shared_bytes"));
#if defined(FASTRNN_EMULATED)
  // An H200, but for its number of multiprocessors: each one more costs time here.
  m.attr("emulated_device") = Device{9, 0, 1, 232448};
#endif
  py::class_<Problem>(m, "Problem", py::module_local(), "One layer's call.")
      .def(py::init(&problem_of), py::kw_only(), py::arg("precision"), py::arg("seq_len"),
           py::arg("batch_size"), py::arg("input_size"), py::arg("hidden_size"),
           py::arg("num_directions"), py::arg("training"));
  py::class_<Plan>(m, "Plan", py::module_local(), "How a call is cut into blocks.")
      .def_readonly("hidden", &Plan::hidden)
      .def_readonly("tiles", &Plan::tiles)
      .def_readonly("steps_per_slice", &Plan::steps_per_slice)
      .def_property_readonly("fuses_input", &Plan::fuses_input)
      .def_property_readonly("slices", &Plan::slices)
      .def_property_readonly("forward_threads", &Plan::forward_threads)
      .def_property_readonly("backward_threads", &Plan::backward_threads)
      .def_property_readonly("forward_shared", &Plan::forward_shared)
      .def_property_readonly("gates_shared", &Plan::gates_shared)
      .def_property_readonly("backward_shared", &Plan::backward_shared)
      .def_property_readonly("forward_weight_bytes", &Plan::forward_weight_bytes)
      .def_property_readonly("backward_weight_bytes", &Plan::backward_weight_bytes);
  m.def("reasons_against", &reasons_against, py::arg("problem"), py::arg("device"),
        "Why a GPU cannot run a problem; empty if it can.");
  m.def("make_plan", &make_plan, py::arg("problem"), py::arg("device"),
        "Raises ValueError where there are reasons against it.");

  const auto no_gil = py::call_guard<py::gil_scoped_release>();
  m.def("pack_forward", &run_pack_forward, no_gil, py::arg("plan"), py::kw_only(), py::arg("w_ih"),
        py::arg("w_hh"), py::arg("words"), py::arg("device"), py::arg("stream"));
  m.def("pack_backward", &run_pack_backward, no_gil, py::arg("plan"), py::kw_only(),
        py::arg("w_hh"), py::arg("words"), py::arg("device"), py::arg("stream"));
  m.def("forward", &run_forward, no_gil, py::arg("plan"), py::kw_only(), py::arg("x"),
        py::arg("bias"), py::arg("share"), py::arg("weights"), py::arg("h_0"), py::arg("c_0"),
        py::arg("order"), py::arg("lengths"), py::arg("y"), py::arg("h_n"), py::arg("c_n"),
        py::arg("cells"), py::arg("device"), py::arg("stream"));
  m.def("gates", &run_gates, no_gil, py::arg("plan"), py::kw_only(), py::arg("x"), py::arg("bias"),
        py::arg("share"), py::arg("weights"), py::arg("h_0"), py::arg("order"), py::arg("lengths"),
        py::arg("y"), py::arg("gates"), py::arg("device"), py::arg("stream"));
  m.def("backward", &run_backward, no_gil, py::arg("plan"), py::kw_only(), py::arg("weights"),
        py::arg("gates"), py::arg("cells"), py::arg("c_0"), py::arg("order"), py::arg("lengths"),
        py::arg("grad_y"), py::arg("grad_h_n"), py::arg("grad_c_n"), py::arg("grad_h_0"),
        py::arg("grad_c_0"), py::arg("grad_bias_tiles"), py::arg("device"), py::arg("stream"));
}
