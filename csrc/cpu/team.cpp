#include "team.h"

#include <thread>

namespace fastrnn {
namespace {

// About 20 microseconds: longer than a step takes, shorter than the scheduler's time slice. After
// that the thread we wait for is probably not running, perhaps for want of this core.
constexpr int kSpins = 500;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

bool Team::claim(int64_t part, int64_t phase) {
  std::atomic<int64_t>& claimed = parts_[part].claimed;
  return claimed.load(std::memory_order_relaxed) == phase &&
         claimed.compare_exchange_strong(phase, phase + 1, std::memory_order_relaxed);
}

void Team::complete(int64_t part, int64_t phase) {
  parts_[part].complete.store(phase + 1, std::memory_order_release);
}

void Team::wait(int64_t phase) const {
  for (const Part& part : parts_)
    for (int spins = 0; part.complete.load(std::memory_order_acquire) <= phase; ++spins) {
      if (spins < kSpins)
        relax();
      else
        std::this_thread::yield();
    }
}

}  // namespace fastrnn
