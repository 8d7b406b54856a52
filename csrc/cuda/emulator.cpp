// Fibers, their schedule, and what a thread of the emulated GPU has.
#include "emulator.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <utility>
#include <vector>

#if !defined(__x86_64__) || !defined(__ELF__)
#include <ucontext.h>
#endif

namespace fastrnn::gpu {

namespace emulator {

namespace {

constexpr int kMaxThreads = 1024;
constexpr size_t kStackBytes = 128 * 1024;

// Memory between two pages that fault.
class GuardedPages {
 public:
  explicit GuardedPages(size_t bytes) : page_(sysconf(_SC_PAGESIZE)) {
    bytes_ = (bytes + page_ - 1) / page_ * page_;
    void* base = mmap(nullptr, bytes_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<char*>(base);
    if (bytes_ && mprotect(base_ + page_, bytes_, PROT_READ | PROT_WRITE)) {
      munmap(base_, bytes_ + 2 * page_);
      throw std::bad_alloc();
    }
  }
  GuardedPages(const GuardedPages&) = delete;
  GuardedPages& operator=(const GuardedPages&) = delete;
  ~GuardedPages() { munmap(base_, bytes_ + 2 * page_); }

  char* begin() const { return base_ + page_; }
  char* end() const { return begin() + bytes_; }

 private:
  size_t page_, bytes_;
  char* base_;
};

// A context is where a suspended fiber goes on. swapcontext() makes a system call each time, which
// takes longer than most of what lanes do between two switches; hence a few lines of assembly.
#if defined(__x86_64__) && defined(__ELF__)

extern "C" void fastrnn_switch_context(void** from, void* to);

// Registers that functions must preserve are on the stack, which is all that is left to exchange.
asm(R"(
  .pushsection .text
  .globl fastrnn_switch_context
  .hidden fastrnn_switch_context
  .type fastrnn_switch_context, @function
fastrnn_switch_context:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size fastrnn_switch_context, . - fastrnn_switch_context
  .popsection
)");

using Context = void*;

void make_context(Context& context, char* /*begin*/, char* end, void (*entry)()) {
  void** top = reinterpret_cast<void**>(end);
  *--top = nullptr;  // where `entry` would return to
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  context = top;
}

void switch_context(Context& from, const Context& to) { fastrnn_switch_context(&from, to); }

#else

using Context = ucontext_t;

void make_context(Context& context, char* begin, char* end, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = begin;
  context.uc_stack.ss_size = end - begin;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}

void switch_context(Context& from, const Context& to) { swapcontext(&from, &to); }

#endif

struct Copy {
  void* to;
  const void* from;
  int bytes;
  bool valid;
  int group;
};

struct Lane {
  Context context;
  int thread;
  const Instruction* stop;  // where it stands while others run
  Operands* operands;

  std::vector<Copy> copies;  // not made yet, the oldest first
  int groups;                // committed so far
};

constexpr Instruction kStart{"has not begun", nullptr};
constexpr Instruction kBarrier{"waits in barrier", nullptr};
constexpr Instruction kEnd{"has ended", nullptr};

// Thrown in the lanes that are left when another one failed, for their destructors to run.
struct Unwinding {};

class Machine;
constinit thread_local Machine* running = nullptr;
std::atomic<Schedule> schedule = Schedule::ascending;
std::atomic<unsigned> first_block = 0;

// Runs blocks on one thread of the host, and keeps stacks and shared memory for the next ones.
class Machine {
 public:
  void prepare(int threads, int shared_bytes, const std::function<void()>& kernel) {
    while (static_cast<int>(lanes_.size()) < threads) {
      stacks_.push_back(std::make_unique<GuardedPages>(kStackBytes));
      lanes_.emplace_back();
    }
    // Not a larger one used before: then what lies in front would not fault.
    if (!shared_ || shared_bytes != shared_bytes_) {
      shared_ = std::make_unique<GuardedPages>(shared_bytes);
      shared_bytes_ = shared_bytes;
    }
    threads_ = threads;
    kernel_ = &kernel;
    schedule_ = schedule;
    draws_ = 0;
  }

  void run_block(Grid block) {
    block_ = block;
    unwinding_ = false;
    std::memset(shared_->begin(), 0xFF, shared_->end() - shared_->begin());
    for (int thread = 0; thread < threads_; ++thread) {
      Lane& lane = lanes_[thread];
      lane.thread = thread;
      lane.stop = &kStart;
      lane.copies.clear();
      lane.groups = 0;
      // Stacks that began at the same place of a page would compete for the same cache lines.
      const GuardedPages& stack = *stacks_[thread];
      char* end = stack.end() - 128 * (thread % kWarpSize);
      make_context(lane.context, stack.begin(), end, [] { running->run_lane(); });
    }
    try {
      while (lanes_[0].stop != &kEnd) run_to_barrier();
    } catch (...) {
      unwind();
      throw;
    }
  }

  // Suspends the lane that runs until those that it needs have come as far.
  void wait(const Instruction& stop, Operands* operands) {
    lane_->stop = &stop;
    lane_->operands = operands;
    switch_to_next(lane_->context);
    if (unwinding_) throw Unwinding();
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw std::logic_error("block (" + std::to_string(block_.x) + ", " + std::to_string(block_.y) +
                           ", " + std::to_string(block_.z) + "): " + what);
  }

  // Shared memory takes `bytes` at this address, aligned to as many.
  void check_shared(const void* pointer, int bytes, const char* what) const {
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    const auto begin = reinterpret_cast<uintptr_t>(shared());
    const bool inside = address >= begin && address + bytes <= begin + shared_bytes_;
    if (inside && address % bytes == 0) return;
    fail("thread " + std::to_string(lane_->thread) + ": " + what + " at byte " +
         std::to_string(static_cast<intptr_t>(address - begin)) + " of shared memory " +
         (inside ? "is not aligned" : "is outside of it"));
  }

  Lane& lane() const { return *lane_; }
  const Grid& block() const { return block_; }
  char* shared() const { return shared_->end() - shared_bytes_; }

 private:
  void run_to_barrier() {
    draw(warp_order_);
    draw(lane_order_);
    for (const int warp : warp_order_) {
      first_ = warp * kWarpSize;
      if (first_ < threads_) run_warp();
    }
    check_together(lanes_.data(), threads_);
  }

  void run_warp() {
    do {
      turn_ = 0;
      switch_to_next(scheduler_);
      if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    } while (perform());
  }

  // Does what the warp's lanes wait for; false where that is the barrier, or the end.
  bool perform() {
    const int count = std::min(threads_ - first_, kWarpSize);
    const Lane* lanes = &lanes_[first_];
    check_together(lanes, count);
    if (!lanes->stop->perform) return false;
    if (count < kWarpSize) fail(describe(*lanes) + ", but its warp is incomplete");
    Warp warp;
    for (int lane = 0; lane < kWarpSize; ++lane) warp[lane] = lanes[lane].operands;
    lanes->stop->perform(warp);
    return true;
  }

  // No lane of these can go on if they stand at different places.
  void check_together(const Lane* lanes, int count) const {
    for (int i = 1; i < count; ++i) {
      if (lanes[i].stop == lanes->stop && mask_of(lanes[i]) == mask_of(*lanes)) continue;
      fail("deadlock: " + describe(*lanes) + ", but " + describe(lanes[i]));
    }
  }

  static int mask_of(const Lane& lane) { return lane.stop->perform ? lane.operands->mask : 0; }

  static std::string describe(const Lane& lane) {
    std::string text = "thread " + std::to_string(lane.thread) + " " + lane.stop->name;
    if (mask_of(lane)) text += " with mask " + std::to_string(mask_of(lane));
    return text;
  }

  // To the warp's next lane, or to the scheduler when each has had its turn.
  void switch_to_next(Context& from) {
    while (turn_ < kWarpSize) {
      const int thread = first_ + lane_order_[turn_++];
      if (thread >= threads_) continue;
      lane_ = &lanes_[thread];
      return switch_context(from, lane_->context);
    }
    switch_context(from, scheduler_);
  }

  [[noreturn]] void run_lane() {
    try {
      (*kernel_)();
    } catch (const Unwinding&) {
    } catch (...) {
      error_ = std::current_exception();
      turn_ = kWarpSize;
    }
    lane_->stop = &kEnd;
    switch_to_next(lane_->context);
    std::abort();  // nobody comes back to a thread that has ended
  }

  void unwind() {
    unwinding_ = true;
    for (int thread = 0; thread < threads_; ++thread) {
      lane_ = &lanes_[thread];
      if (lane_->stop == &kStart || lane_->stop == &kEnd) continue;
      turn_ = kWarpSize;
      switch_context(scheduler_, lane_->context);
    }
  }

  void draw(std::array<int, kWarpSize>& order) {
    std::iota(order.begin(), order.end(), 0);
    if (schedule_ == Schedule::descending) std::reverse(order.begin(), order.end());
    if (schedule_ != Schedule::shuffled) return;
    for (int i = 1; i < kWarpSize; ++i) std::swap(order[i], order[scramble(draws_++) % (i + 1)]);
  }

  std::vector<std::unique_ptr<GuardedPages>> stacks_;
  std::vector<Lane> lanes_;
  std::unique_ptr<GuardedPages> shared_;
  Context scheduler_;
  Lane* lane_ = nullptr;
  std::exception_ptr error_;
  const std::function<void()>* kernel_ = nullptr;
  Grid block_{};
  int threads_ = 0, shared_bytes_ = 0;
  int first_ = 0;  // thread of the warp that runs
  int turn_ = 0;   // how many of its lanes have run
  Schedule schedule_ = Schedule::ascending;
  uint32_t draws_ = 0;
  bool unwinding_ = false;
  std::array<int, kWarpSize> warp_order_, lane_order_;  // a block has at most 32 warps as well
};

Machine& machine() {
  if (!running) throw std::logic_error("This is for kernels, in emulator::run()");
  return *running;
}

}  // namespace

void set_schedule(Schedule order) { schedule = order; }
void set_first_block(unsigned x) { first_block = x; }

void run(Grid grid, int threads, int shared_bytes, const std::function<void()>& kernel) {
  if (running) throw std::logic_error("emulator::run() in a kernel");
  if (threads < 1 || threads > kMaxThreads || shared_bytes < 0 || shared_bytes % 16) {
    throw std::invalid_argument("emulator::run() with " + std::to_string(threads) + " threads, " +
                                std::to_string(shared_bytes) + " bytes of shared memory");
  }
  thread_local Machine machine;
  machine.prepare(threads, shared_bytes, kernel);
  struct Running {
    explicit Running(Machine& machine) { running = &machine; }
    ~Running() { running = nullptr; }
  } guard(machine);
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = first_block; x < grid.x; ++x) machine.run_block({x, y, z});
    }
  }
}

void fail(const std::string& what) { machine().fail(what); }

void check_shared(const void* pointer, int bytes, const char* what) {
  machine().check_shared(pointer, bytes, what);
}

void perform_together(const Instruction& instruction, Operands operands) {
  machine().wait(instruction, &operands);
}

void copy_async(void* to, const void* from, int bytes, bool valid) {
  const Machine& here = machine();
  here.check_shared(to, bytes, "destination of copy_async");
  if (reinterpret_cast<uintptr_t>(from) % bytes) {
    here.fail("thread " + std::to_string(here.lane().thread) +
              ": source of copy_async is not aligned");
  }
  std::memset(to, 0xFF, bytes);  // who reads this before the copy is there gets neither old nor new
  here.lane().copies.push_back({to, from, bytes, valid, here.lane().groups});
}

void wait_copies(int pending) {
  Lane& lane = machine().lane();
  auto copy = lane.copies.begin();
  for (; copy != lane.copies.end() && copy->group < lane.groups - pending; ++copy) {
    if (copy->valid) {
      std::memcpy(copy->to, copy->from, copy->bytes);
    } else {
      std::memset(copy->to, 0, copy->bytes);
    }
  }
  lane.copies.erase(lane.copies.begin(), copy);
}

}  // namespace emulator

int thread_index() { return emulator::machine().lane().thread; }
int block_x() { return static_cast<int>(emulator::machine().block().x); }
int block_y() { return static_cast<int>(emulator::machine().block().y); }
int block_z() { return static_cast<int>(emulator::machine().block().z); }

char* shared_memory() { return emulator::machine().shared(); }

void barrier() { emulator::machine().wait(emulator::kBarrier, nullptr); }

void commit_copies() { ++emulator::machine().lane().groups; }

}  // namespace fastrnn::gpu
