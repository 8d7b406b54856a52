// Python's view of the CPU kernels: sizes and addresses in, no tensors and no torch.
//
// The caller (fastrnn/recurrence/backends/cpu.py) owns and checks every array.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "cpu/handover.h"
#include "cpu/lstm_cpu.h"
#include "cpu/sizes.h"

namespace py = pybind11;

namespace {

using Address = std::uintptr_t;

// The address of an array that may be absent (0).
template <class T>
T* optional(const char* name, Address address) {
  if (address % alignof(T) != 0)
    throw std::invalid_argument(std::string(name) + " is at address " + std::to_string(address) +
                                "; it should be at a multiple of " + std::to_string(alignof(T)));
  return reinterpret_cast<T*>(address);
}

template <class T>
T* required(const char* name, Address address) {
  if (address == 0)
    throw std::invalid_argument(std::string(name) + " is 0; it should be the address of an array");
  return optional<T>(name, address);
}

std::vector<std::string> usable_isas() {
  std::vector<std::string> names;
  for (const fastrnn::InstructionSet& isa : fastrnn::instruction_sets())
    if (isa.is_supported()) names.emplace_back(isa.name);
  return names;
}

std::string select_isa(const std::string& name) {
  return fastrnn::select_instruction_set(name).name;
}

// The plan of one call; Python asks it for the workspace's size, allocates, and runs.
class Call {
 public:
  Call(const std::string& isa, bool float64, int64_t seq_len, int64_t batch_size,
       int64_t input_size, int64_t hidden_size, int64_t num_directions, int64_t num_gates,
       Address lengths, Address reset, Address state_mask, int64_t num_threads)
      : isa_(fastrnn::select_instruction_set(isa)),
        float64_(float64),
        shape_(checked({seq_len, batch_size, input_size, hidden_size, num_directions, num_gates},
                       num_threads, float64)),
        lengths_(checked(optional<const int64_t>("lengths", lengths), shape_)),
        reset_(optional<const uint8_t>("reset", reset)),
        state_mask_(state_mask),
        plan_(shape_, lengths_, num_threads) {}

  int64_t num_threads() const { return plan_.num_threads(); }
  int64_t team_size() const { return plan_.team_size(); }

  int64_t forward_workspace() const {
    return float64_ ? fastrnn::forward_workspace<double>(isa_, shape_, plan_)
                    : fastrnn::forward_workspace<float>(isa_, shape_, plan_);
  }

  int64_t backward_workspace(bool wants_grad_x, bool wants_grad_weights) const {
    return float64_ ? fastrnn::backward_workspace<double>(isa_, shape_, plan_, wants_grad_x,
                                                          wants_grad_weights)
                    : fastrnn::backward_workspace<float>(isa_, shape_, plan_, wants_grad_x,
                                                         wants_grad_weights);
  }

  void forward(Address x, Address w_ih, Address w_hh, Address bias, Address h_0, Address c_0,
               Address y, Address h_n, Address c_n, Address reserve, Address workspace) const {
    const auto run = [&]<class T>(T) {
      const fastrnn::LstmForward<T> args{
          .shape = shape_,
          .x = required<T>("x", x),
          .w_ih = required<T>("w_ih", w_ih),
          .w_hh = required<T>("w_hh", w_hh),
          .bias = optional<T>("bias", bias),
          .h_0 = optional<T>("h_0", h_0),
          .c_0 = optional<T>("c_0", c_0),
          .lengths = lengths_,
          .reset = reset_,
          .state_mask = optional<T>("state_mask", state_mask_),
          .y = required<T>("y", y),
          .h_n = required<T>("h_n", h_n),
          .c_n = required<T>("c_n", c_n),
          .reserve = optional<T>("reserve", reserve),
      };
      fastrnn::lstm_forward<T>(isa_, args, plan_, required<T>("workspace", workspace));
    };
    float64_ ? run(double{}) : run(float{});
  }

  void backward(Address x, Address w_ih, Address w_hh, Address h_0, Address c_0, Address y,
                Address reserve, Address grad_y, Address grad_h_n, Address grad_c_n, Address grad_x,
                Address grad_w_ih, Address grad_w_hh, Address grad_bias, Address grad_h_0,
                Address grad_c_0, Address workspace) const {
    if (!grad_w_ih != !grad_w_hh || !grad_w_ih != !grad_bias)
      throw std::invalid_argument(
          "of grad_w_ih, grad_w_hh and grad_bias some are 0; all of them should be, or none");
    const auto run = [&]<class T>(T) {
      const fastrnn::LstmBackward<T> args{
          .shape = shape_,
          .x = required<T>("x", x),
          .w_ih = required<T>("w_ih", w_ih),
          .w_hh = required<T>("w_hh", w_hh),
          .h_0 = optional<T>("h_0", h_0),
          .c_0 = optional<T>("c_0", c_0),
          .lengths = lengths_,
          .reset = reset_,
          .state_mask = optional<T>("state_mask", state_mask_),
          .y = required<T>("y", y),
          .reserve = required<T>("reserve", reserve),
          .grad_y = optional<T>("grad_y", grad_y),
          .grad_h_n = optional<T>("grad_h_n", grad_h_n),
          .grad_c_n = optional<T>("grad_c_n", grad_c_n),
          .grad_x = optional<T>("grad_x", grad_x),
          .grad_w_ih = optional<T>("grad_w_ih", grad_w_ih),
          .grad_w_hh = optional<T>("grad_w_hh", grad_w_hh),
          .grad_bias = optional<T>("grad_bias", grad_bias),
          .grad_h_0 = required<T>("grad_h_0", grad_h_0),
          .grad_c_0 = required<T>("grad_c_0", grad_c_0),
      };
      fastrnn::lstm_backward<T>(isa_, args, plan_, required<T>("workspace", workspace));
    };
    float64_ ? run(double{}) : run(float{});
  }

 private:
  static fastrnn::LstmShape checked(const fastrnn::LstmShape& shape, int64_t num_threads,
                                    bool float64) {
    fastrnn::check_sizes(shape, num_threads, float64 ? sizeof(double) : sizeof(float));
    return shape;
  }

  // The last line of defence: a length outside of the arrays would write outside of them.
  static const int64_t* checked(const int64_t* lengths, const fastrnn::LstmShape& shape) {
    for (int64_t row = 0; lengths && row < shape.batch_size; ++row)
      if (lengths[row] < 0 || lengths[row] > shape.seq_len)
        throw std::invalid_argument("lengths[" + std::to_string(row) + "] is " +
                                    std::to_string(lengths[row]) + "; it should be between 0 and " +
                                    std::to_string(shape.seq_len) + ", the number of steps");
    return lengths;
  }

  const fastrnn::InstructionSet& isa_;
  bool float64_;
  fastrnn::LstmShape shape_;
  const int64_t* lengths_;
  const uint8_t* reset_;
  Address state_mask_;
  fastrnn::Plan plan_;
};

}  // namespace

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "LSTM kernels for the CPU; see csrc/lstm.h for the arrays they take.";
  m.attr("__version__") = FASTRNN_VERSION;
  m.attr("reserve_planes") = fastrnn::kReservePlanes;
  m.def("usable_isas", &usable_isas, "Names of the instruction sets this CPU can run, best first.");
  m.def("select_isa", &select_isa, py::arg("name") = "",
        "The named instruction set if it can run here, or the best one for an empty name.");
  const auto no_gil = py::call_guard<py::gil_scoped_release>();
  m.def("handover_ns", &fastrnn::handover_ns, no_gil,
        "Nanoseconds of a question and its answer between two threads, which decides from how many "
        "units on they are split where there are fewer rows than threads.");
  m.def("set_handover_ns", &fastrnn::set_handover_ns, py::arg("ns"),
        "Decide by this instead of what is measured; a negative number ends that.");
  py::class_<Call>(m, "Call", "One layer's call: its plan, and the memory and arrays it needs.")
      .def(py::init<const std::string&, bool, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                    Address, Address, Address, int64_t>(),
           py::kw_only(), py::arg("isa"), py::arg("float64"), py::arg("seq_len"),
           py::arg("batch_size"), py::arg("input_size"), py::arg("hidden_size"),
           py::arg("num_directions"), py::arg("num_gates"), py::arg("lengths"), py::arg("reset"),
           py::arg("state_mask"), py::arg("num_threads"))
      .def_property_readonly("num_threads", &Call::num_threads)
      .def_property_readonly("team_size", &Call::team_size,
                             "Threads that share the hidden units of the same rows.")
      .def("forward_workspace", &Call::forward_workspace, "Elements of workspace for `forward`.")
      .def("backward_workspace", &Call::backward_workspace, py::arg("wants_grad_x"),
           py::arg("wants_grad_weights"), "Elements of workspace for `backward`.")
      .def("forward", &Call::forward, no_gil, py::kw_only(), py::arg("x"), py::arg("w_ih"),
           py::arg("w_hh"), py::arg("bias"), py::arg("h_0"), py::arg("c_0"), py::arg("y"),
           py::arg("h_n"), py::arg("c_n"), py::arg("reserve"), py::arg("workspace"))
      .def("backward", &Call::backward, no_gil, py::kw_only(), py::arg("x"), py::arg("w_ih"),
           py::arg("w_hh"), py::arg("h_0"), py::arg("c_0"), py::arg("y"), py::arg("reserve"),
           py::arg("grad_y"), py::arg("grad_h_n"), py::arg("grad_c_n"), py::arg("grad_x"),
           py::arg("grad_w_ih"), py::arg("grad_w_hh"), py::arg("grad_bias"), py::arg("grad_h_0"),
           py::arg("grad_c_0"), py::arg("workspace"));
}
