#include "parallel.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <exception>
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

struct Job {
  const std::function<void(int64_t)>& body;
  int64_t count;
  std::atomic<int64_t> next{0};
  std::atomic<bool> has_failed{false};
  std::exception_ptr failure{};  // of the thread that set `has_failed`; read when all have ended
};

// There may be fewer threads than asked for, so they take indices until none is left. Nothing
// may be thrown out of here: on a thread of the pool that would end the process.
void work(void* data) noexcept {
  Job& job = *static_cast<Job*>(data);
  try {
    for (int64_t i = job.next++; i < job.count; i = job.next++) job.body(i);
  } catch (...) {
    if (!job.has_failed.exchange(true)) job.failure = std::current_exception();
    job.next = job.count;  // what nobody has begun is left out
  }
}

// Runs the job on plain threads, as many as there are to be had.
void run_on_threads(Job& job) {
  std::vector<std::thread> threads;
  try {
    threads.reserve(job.count - 1);
    while (static_cast<int64_t>(threads.size()) < job.count - 1) threads.emplace_back(work, &job);
  } catch (const std::exception&) {
    // No more threads, or no memory for them: those that are there do all the work.
  }
  work(&job);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

void parallel_run(int64_t count, const std::function<void(int64_t)>& body) {
  if (count <= 1) {
    if (count == 1) body(0);
    return;
  }
  Job job{body, count};
  if (const GompParallel openmp = find_openmp())
    openmp(work, &job, static_cast<unsigned>(count), 0);
  else
    run_on_threads(job);
  if (job.failure) std::rethrow_exception(job.failure);
}

}  // namespace fastrnn
