#include "lstm_cuda.h"

#include <stdexcept>

#include "kernels.h"

namespace fastrnn::cuda {
namespace {

const char* name_of(Precision precision) {
  switch (precision) {
    case Precision::half: return "float16";
    case Precision::bfloat16: return "bfloat16";
    case Precision::tf32: return "float32 with TF32";
    case Precision::exact: return "float32";
  }
  return "?";
}

Launch describe(const Plan& plan, const char* kernel, int slices, int threads, int shared_bytes) {
  std::string what = std::string(kernel) + ", " + name_of(plan.precision) +
                     ", H=" + std::to_string(plan.sizes.hidden_size) + " padded to " +
                     std::to_string(plan.hidden);
  if (plan.fuses_input()) what += ", I=" + std::to_string(plan.sizes.input_size) + " fused";
  return {what,
          static_cast<unsigned>(plan.tiles),
          static_cast<unsigned>(plan.sizes.num_directions),
          static_cast<unsigned>(slices),
          threads,
          shared_bytes,
          plan.device_shared};
}

void pack(const Plan& plan, const char* kernel, void (*run_pack)(PackArguments, int, int),
          const PackArguments& arguments, int chunks, int fragments, Stream stream) {
  constexpr int kThreads = 256;
  Launch launch = describe(plan, kernel, 1, kThreads, 0);
  launch.grid_x = static_cast<unsigned>(chunks);
  run(launch, run_pack, stream, arguments, chunks, fragments);
}

// The widest copies whose addresses are all aligned, where rows of so many bytes lie in a row.
int copy_width(int row_elements, Precision precision) {
  const int bytes = row_elements * element_bytes(precision);
  return bytes % 16 == 0 ? 16 : bytes % 4 == 0 ? 4 : 2;
}

ForwardArguments completed(const Plan& plan, ForwardArguments arguments) {
  arguments.sizes = plan.sizes;
  arguments.input_chunks = plan.input_chunks;
  arguments.input_width = copy_width(plan.sizes.input_size, plan.precision);
  if (plan.fuses_input() && arguments.input_width == 2)
    throw std::invalid_argument("input_size is odd; in 16 bits it should be padded to an even one");
  arguments.state_width = copy_width(plan.sizes.hidden_size, plan.precision);
  arguments.steps_per_slice = plan.steps_per_slice;
  return arguments;
}

}  // namespace

void pack_forward(const Plan& plan, const void* w_ih, const void* w_hh, uint32_t* words,
                  Stream stream) {
  const PackArguments arguments{plan.sizes, plan.hidden, plan.input_chunks, w_ih, w_hh, words};
  pack(plan, "lstm_pack", find_pack_kernels(plan.precision).forward, arguments,
       plan.forward_chunks(), forward_fragments(plan.hidden), stream);
}

void pack_backward(const Plan& plan, const void* w_hh, uint32_t* words, Stream stream) {
  const PackArguments arguments{plan.sizes, plan.hidden, 0, nullptr, w_hh, words};
  pack(plan, "lstm_pack transposed", find_pack_kernels(plan.precision).backward, arguments,
       plan.backward_chunks(), backward_fragments(plan.hidden), stream);
}

void forward(const Plan& plan, ForwardArguments arguments, Stream stream) {
  const KernelSet kernels = find_kernels(plan.precision, plan.hidden);
  const Launch launch =
      describe(plan, "lstm_forward", 1, plan.forward_threads(), plan.forward_shared());
  run(launch, plan.fuses_input() ? kernels.forward_fused : kernels.forward, stream,
      completed(plan, arguments));
}

void gates(const Plan& plan, ForwardArguments arguments, Stream stream) {
  const KernelSet kernels = find_kernels(plan.precision, plan.hidden);
  const Launch launch =
      describe(plan, "lstm_gates", plan.slices(), plan.forward_threads(), plan.gates_shared());
  run(launch, plan.fuses_input() ? kernels.gates_fused : kernels.gates, stream,
      completed(plan, arguments));
}

void backward(const Plan& plan, BackwardArguments arguments, Stream stream) {
  const KernelSet kernels = find_kernels(plan.precision, plan.hidden);
  const Launch launch =
      describe(plan, "lstm_backward", 1, plan.backward_threads(), plan.backward_shared());
  arguments.sizes = plan.sizes;
  run(launch, kernels.backward, stream, arguments);
}

}  // namespace fastrnn::cuda
