#include "parallel.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace fastrnn {
namespace {

// The entry point that GCC's OpenMP code calls for a parallel region; LLVM's and Intel's runtimes
// offer it too. https://gcc.gnu.org/onlinedocs/libgomp/Implementing-PARALLEL-construct.html
using GompParallel = void (*)(void (*)(void*), void*, unsigned num_threads, unsigned flags);

std::atomic<bool> is_forked_child{false};

// Registered when the module is loaded: the first parallel call may come after the fork.
const int atfork_registered = pthread_atfork(nullptr, nullptr, [] { is_forked_child = true; });

GompParallel find_openmp() {
  static const auto found = reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return is_forked_child ? nullptr : found;
}

struct Team {
  const std::function<void(int64_t)>& body;
  int64_t count;
  std::atomic<int64_t> next{0};
};

// The team may be smaller than asked for, so its members take indices until none is left.
void work(void* data) {
  Team& team = *static_cast<Team*>(data);
  for (int64_t i = team.next++; i < team.count; i = team.next++) team.body(i);
}

}  // namespace

void parallel_run(int64_t count, const std::function<void(int64_t)>& body) {
  if (count <= 1) {
    if (count == 1) body(0);
    return;
  }
  Team team{body, count};
  if (const GompParallel openmp = find_openmp()) {
    openmp(work, &team, static_cast<unsigned>(count), 0);
    return;
  }
  std::vector<std::thread> threads;
  try {
    for (int64_t i = 1; i < count; ++i) threads.emplace_back(work, &team);
  } catch (const std::system_error&) {
    // No more threads to be had: those that are there do all the work.
  }
  work(&team);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace fastrnn
