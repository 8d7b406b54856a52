#include <atomic>
#include <cstdio>
#include <new>
#include <random>
#include <stdexcept>

#include "cpu/lstm_cpu.h"
#include "cpu/parallel.h"
#include "cpu/sizes.h"
#include "grid.h"

namespace fastrnn::native_tests {
namespace {

int report(const char* what) {
  std::printf("wrong: %s\n", what);
  return 1;
}

int check_exceptions_of_threads() {
  int wrong = 0;
  for (const int64_t failing : {0, 1, 5}) {
    bool is_caught = false;
    try {
      parallel_run(6, [&](int64_t i) {
        if (i == failing) throw std::runtime_error("planned");
      });
    } catch (const std::runtime_error&) {
      is_caught = true;
    }
    if (!is_caught) wrong += report("an exception of a thread did not reach the caller");
  }
  try {
    parallel_run(6, [](int64_t) { throw std::bad_alloc(); });
    wrong += report("exceptions of all threads did not reach the caller");
  } catch (const std::bad_alloc&) {
  }
  std::atomic<int64_t> sum{0};
  parallel_run(6, [&](int64_t i) { sum += i; });
  if (sum != 15) wrong += report("the pool is of no use after an exception");
  return wrong;
}

// What `check_sizes` lets pass, the core may multiply: UndefinedBehaviorSanitizer watches over the
// formulas of the layout and of the plan.
int check_that_accepted_sizes_do_not_overflow() {
  int wrong = 0, accepted = 0;
  std::mt19937_64 rng(1);
  const auto draw = [&](int bits) {
    return static_cast<int64_t>(rng() >> (64 - 1 - rng() % bits));
  };
  for (int i = 0; i < 20'000; ++i) {
    // A plan has an entry for each row of the batch: those must fit into memory here.
    const LstmShape shape{1 + draw(61), 1 + draw(8),     1 + draw(40),
                          1 + draw(30), 1 + draw(1) % 2, 3 + draw(1) % 2};
    const int64_t threads = 1 + draw(10);
    try {
      check_sizes(shape, threads, sizeof(double));
    } catch (const std::bad_alloc&) {
      continue;
    }
    ++accepted;
    const Plan plan(shape, nullptr, threads);
    for (const InstructionSet& isa : instruction_sets()) {
      const bool fits = forward_workspace<double>(isa, shape, plan) > 0 &&
                        backward_workspace<double>(isa, shape, plan, true, true) > 0 &&
                        forward_workspace<float>(isa, shape, plan) > 0 &&
                        backward_workspace<float>(isa, shape, plan, true, true) > 0;
      if (!fits) wrong += report("a workspace whose size was accepted overflows");
    }
  }
  std::printf("limits: %d of 20000 random shapes have sizes that memory might hold\n", accepted);
  if (accepted < 2000 || accepted > 18'000) wrong += report("the random shapes are one-sided");
  return wrong;
}

}  // namespace

int check_limits() {
  return check_exceptions_of_threads() + check_that_accepted_sizes_do_not_overflow();
}

}  // namespace fastrnn::native_tests
