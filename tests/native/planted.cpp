// Mistakes made on purpose: proof that the sanitizers see into the kernels.
#include <atomic>
#include <cstdio>
#include <thread>

#include "cpu/lstm_cpu.h"
#include "cpu/parallel.h"
#include "grid.h"
#include "problem.h"

namespace fastrnn::native_tests {
namespace {

// The kernels write y one element too far.
void overrun() {
  const LstmShape shape{3, 2, 4, 16, 1, 4};
  const Array<float> x(3 * 2 * 4), w_ih(64 * 4), w_hh(64 * 16), h_n(2 * 16), c_n(2 * 16);
  const Array<float> y(3 * 2 * 16 - 1);
  const InstructionSet& isa = select_instruction_set("");
  const Plan plan(shape, nullptr, 1);
  const Array<float> workspace(forward_workspace<float>(isa, shape, plan));
  lstm_forward<float>(isa,
                      {.shape = shape,
                       .x = x.get(),
                       .w_ih = w_ih.get(),
                       .w_hh = w_hh.get(),
                       .bias = nullptr,
                       .h_0 = nullptr,
                       .c_0 = nullptr,
                       .lengths = nullptr,
                       .reset = nullptr,
                       .state_mask = nullptr,
                       .y = y.get(),
                       .h_n = h_n.get(),
                       .c_n = c_n.get(),
                       .reserve = nullptr},
                      plan, workspace.get());
}

// Sizes that nobody has checked.
void overflow() {
  const LstmShape shape{1, 1, int64_t{1} << 40, int64_t{1} << 40, 1, 4};
  std::printf("%ld\n", static_cast<long>(Layout::make(shape, 16, true).forward_weights()));
}

// Two threads write one element.
void race() {
  int64_t shared = 0;
  std::atomic<int> arrived{0};
  parallel_run(2, [&](int64_t i) {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();  // or one thread might do both
    shared += i;
  });
  std::printf("%ld\n", static_cast<long>(shared));
}

}  // namespace

int plant(const std::string& kind) {
  if (kind == "address")
    overrun();
  else if (kind == "undefined")
    overflow();
  else if (kind == "thread")
    race();
  else
    std::printf("--plant %s: it should be address, undefined or thread\n", kind.c_str());
  std::printf("nobody noticed\n");
  return 0;
}

}  // namespace fastrnn::native_tests
