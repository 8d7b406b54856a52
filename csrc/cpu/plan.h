// Who does what: the rows of a batch, split into tasks, and the tasks over teams of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "layout.h"

namespace fastrnn {

// A plan depends on shapes, lengths, the number of threads and the machine's `handover_ns`. The
// latter decides on a split of units only where that changes no bit of a result: the weight
// gradients are summed in the same order on every run.
class Plan {
 public:
  // `lengths` is [B] or null. At most `max_threads` threads; fewer where there is little to do.
  Plan(const LstmShape& shape, const int64_t* lengths, int64_t max_threads);

  int64_t num_threads() const { return num_teams_ * team_size_; }
  int64_t num_teams() const { return num_teams_; }
  // Threads that share a task, each with some of the hidden units.
  int64_t team_size() const { return team_size_; }
  int64_t max_rows() const { return max_rows_; }
  // Whether there are so few steps, all in one task for each direction, that packing the weights
  // does not pay.
  bool is_direct_forward() const { return is_direct_forward_; }
  bool is_direct_backward() const { return is_direct_backward_; }
  int64_t num_tasks() const { return static_cast<int64_t>(tasks_.size()); }
  // Team i takes the tasks i, i + num_teams, ...
  const RowTask& task(int64_t index) const { return tasks_[index]; }

 private:
  void choose_packing(const LstmShape& shape);
  void choose_split(const LstmShape& shape, const int64_t* lengths, int64_t max_threads);
  void deal_rows(const LstmShape& shape, const int64_t* lengths);

  int64_t num_teams_ = 1;
  int64_t team_size_ = 1;
  int64_t chunks_ = 1;  // parts of the batch, per direction
  int64_t max_rows_ = 0;
  bool is_direct_forward_ = false;
  bool is_direct_backward_ = false;
  std::vector<int64_t> rows_, lengths_;  // of all chunks, one after the other
  std::vector<RowTask> tasks_;
};

}  // namespace fastrnn
