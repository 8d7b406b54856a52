#include "lstm_cpu.h"

#include <algorithm>
#include <deque>

#include "pages.h"
#include "parallel.h"

namespace fastrnn {
namespace {

// Calls `run(task, team, member)` for all tasks, on the plan's threads: those with consecutive
// numbers are a team. If there are fewer threads than planned, they go through all teams.
template <class Run>
void for_each_task(const Plan& plan, const Run& run) {
  std::deque<Team> teams;
  for (int64_t team = 0; team < plan.num_teams(); ++team) teams.emplace_back(plan.team_size());
  const auto run_team = [&](int64_t team, int64_t index) {
    Member member(teams[team], index);
    for (int64_t i = team; i < plan.num_tasks(); i += plan.num_teams())
      run(plan.task(i), team, member);
  };
  parallel_run(plan.num_threads(), [&](int64_t thread) {
    run_team(thread / plan.team_size(), thread % plan.team_size());
  });
}

// Directions that one team sees: task i is of direction i % D and goes to team i % teams.
int64_t directions_per_team(const LstmShape& shape, const Plan& plan) {
  return plan.num_teams() % shape.num_directions == 0 ? 1 : shape.num_directions;
}

bool is_direct_backward(const Plan& plan, const Layout& l) {
  return plan.is_direct_backward() && l.fits_direct_backward();
}

// Units whose rows of the gradients are written side by side: the sums lie transposed, and read
// unit by unit each element would cost a cache line.
constexpr int64_t kUnitsAtOnce = 16;

// Writes the sum over teams of one direction's gradients, for the hidden units [begin, end).
template <class T>
void write_weight_gradients(const LstmBackward<T>& args, const Layout& l, int64_t direction,
                            const T* sums, int64_t stride, int64_t teams, int64_t begin,
                            int64_t end) {
  for (int64_t gate = 0; gate < l.G; ++gate)
    for (int64_t first = begin; first < end; first += kUnitsAtOnce) {
      const int64_t count = std::min(kUnitsAtOnce, end - first);
      const int64_t row = (direction * l.G + gate) * l.H + first;
      for (int64_t k = 0; k < l.I + l.H + 1; ++k) {
        T sum[kUnitsAtOnce] = {};
        for (int64_t team = 0; team < teams; ++team) {
          const T* at = sums + team * stride + k * l.gates + gate * l.padded_H + first;
          for (int64_t u = 0; u < count; ++u) sum[u] += at[u];
        }
        const auto write = [&](T* to, int64_t row_size) {
          for (int64_t u = 0; u < count; ++u) to[(row + u) * row_size] = sum[u];
        };
        if (k < l.I)
          write(args.grad_w_ih + k, l.I);
        else if (k < l.I + l.H)
          write(args.grad_w_hh + k - l.I, l.H);
        else
          write(args.grad_bias, 1);
      }
    }
}

}  // namespace

template <class T>
int64_t forward_workspace(const InstructionSet& isa, const LstmShape& shape, const Plan& plan) {
  const Layout l = Layout::make(shape, kernels_of<T>(isa).width, false);
  const int64_t packed = plan.is_direct_forward() ? 0 : l.forward_packed();
  return shape.num_directions * packed + plan.num_teams() * l.forward_scratch(plan.max_rows());
}

template <class T>
int64_t backward_workspace(const InstructionSet& isa, const LstmShape& shape, const Plan& plan,
                           bool wants_grad_x, bool wants_grad_weights) {
  const Layout l = Layout::make(shape, kernels_of<T>(isa).width, wants_grad_x);
  const bool direct = is_direct_backward(plan, l);
  const int64_t packed = direct ? 0 : l.backward_packed();
  const int64_t sums =
      wants_grad_weights && !direct ? directions_per_team(shape, plan) * l.weight_gradient() : 0;
  return shape.num_directions * packed +
         plan.num_teams() * (l.backward_scratch(plan.max_rows()) + sums);
}

template <class T>
void lstm_forward(const InstructionSet& isa, const LstmForward<T>& args, const Plan& plan,
                  T* workspace) {
  const Kernels<T>& kernels = kernels_of<T>(isa);
  const Layout l = Layout::make(args.shape, kernels.width, false);
  const int64_t D = args.shape.num_directions;
  const int64_t scratch_size = l.forward_scratch(plan.max_rows());
  const bool direct = plan.is_direct_forward();
  T* scratch = workspace + (direct ? 0 : D * l.forward_packed());
  const int64_t outputs = args.shape.seq_len * args.shape.batch_size * D * l.H;
  prefer_large_pages(args.y, outputs * sizeof(T));
  prefer_large_pages(args.reserve, args.reserve ? kReservePlanes * outputs * sizeof(T) : 0);

  parallel_run(direct ? 0 : plan.num_threads(), [&](int64_t thread) {
    for (int64_t d = 0; d < D; ++d)
      kernels.pack_forward(args, d, {thread, plan.num_threads()},
                           workspace + d * l.forward_packed());
  });
  for_each_task(plan, [&](const RowTask& task, int64_t team, Member& member) {
    const T* packed = direct ? nullptr : workspace + task.direction * l.forward_packed();
    kernels.forward_rows(args, task, member, packed, scratch + team * scratch_size);
  });
}

template <class T>
void lstm_backward(const InstructionSet& isa, const LstmBackward<T>& args, const Plan& plan,
                   T* workspace) {
  const Kernels<T>& kernels = kernels_of<T>(isa);
  const Layout l = Layout::make(args.shape, kernels.width, args.grad_x != nullptr);
  const int64_t D = args.shape.num_directions;
  const int64_t threads = plan.num_threads();
  const int64_t scratch_size = l.backward_scratch(plan.max_rows());
  const bool direct = is_direct_backward(plan, l);
  const int64_t sum_size = args.grad_w_ih && !direct ? l.weight_gradient() : 0;
  T* scratch = workspace + (direct ? 0 : D * l.backward_packed());
  const int64_t slots = directions_per_team(args.shape, plan);
  T* sums = scratch + plan.num_teams() * scratch_size;  // [teams][slots][sum_size]
  const int64_t inputs = D * args.shape.seq_len * args.shape.batch_size * l.I;
  prefer_large_pages(args.grad_x, args.grad_x ? inputs * sizeof(T) : 0);

  const int64_t all_sums = plan.num_teams() * slots * sum_size;
  parallel_run(direct ? 0 : threads, [&](int64_t thread) {
    for (int64_t d = 0; d < D; ++d)
      kernels.pack_backward(args, d, plan.team_size(), {thread, threads},
                            workspace + d * l.backward_packed());
    std::fill(sums + all_sums * thread / threads, sums + all_sums * (thread + 1) / threads, T(0));
  });
  for_each_task(plan, [&](const RowTask& task, int64_t team, Member& member) {
    T* team_sums = sums + team * slots * sum_size;
    const T* packed = direct ? nullptr : workspace + task.direction * l.backward_packed();
    kernels.backward_rows(args, task, member, packed, scratch + team * scratch_size,
                          sum_size ? team_sums + task.direction % slots * sum_size : nullptr);
  });
  if (sum_size == 0) return;
  parallel_run(threads, [&](int64_t thread) {
    const int64_t begin = l.H * thread / threads;
    const int64_t end = l.H * (thread + 1) / threads;
    // With one slot a team, direction d has every D-th; with D slots, one of every team's.
    for (int64_t d = 0; d < D; ++d)
      write_weight_gradients(args, l, d, sums + d * sum_size, D * sum_size,
                             plan.num_teams() * slots / D, begin, end);
  });
}

#define FASTRNN_INSTANTIATE(T)                                                                  \
  template int64_t forward_workspace<T>(const InstructionSet&, const LstmShape&, const Plan&);  \
  template int64_t backward_workspace<T>(const InstructionSet&, const LstmShape&, const Plan&,  \
                                         bool, bool);                                           \
  template void lstm_forward<T>(const InstructionSet&, const LstmForward<T>&, const Plan&, T*); \
  template void lstm_backward<T>(const InstructionSet&, const LstmBackward<T>&, const Plan&, T*);

FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
