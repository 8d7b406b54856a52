#include "plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "handover.h"

namespace fastrnn {
namespace {

// Work for which waking a further thread pays, in multiply-adds (about 25 microseconds).
constexpr int64_t kMinThreadWork = 1'000'000;

// A step's multiply-adds with the recurrent weights, over the square of the parts they are split
// into, and over the nanoseconds of a handover: what a part gains must outweigh that each waits for
// all others. Measured with one row, forward and backward: where a handover takes 350 ns, two parts
// gain from about 110 units on, where it takes 60, from 48 on.
constexpr double kMinPartWork = 35;

// Weights that fit into a second-level cache of 1 MiB.
constexpr int64_t kCachedWeights = 250'000;

// Weights that no cache holds: a team reads them once per step, where threads with rows of their
// own would all read them. Measured with 20 rows: a fifth faster at 10 million, no difference at 2.
constexpr int64_t kUncachedWeights = 4'000'000;

// Steps up to which reading weights in place is faster forward, too, even if they are in the cache.
constexpr int64_t kDirectForwardSteps = 6;

int64_t num_weights(const LstmShape& shape) {
  return shape.num_gates * shape.hidden_size * (shape.input_size + shape.hidden_size);
}

// Threads that share a task. Rows are split first, which costs nothing; units are split where there
// are threads without rows, where a thread has one row and the weights exceed its cache, and where
// they exceed all caches.
int64_t choose_team_size(const LstmShape& shape, int64_t threads) {
  if (num_weights(shape) > kUncachedWeights)
    return threads / std::gcd(threads, shape.num_directions);
  const int64_t rows = shape.batch_size * shape.num_directions;
  if (rows > threads) return 1;
  const int64_t to_fit = (num_weights(shape) + kCachedWeights - 1) / kCachedWeights;
  const int64_t useful = std::min(std::max(threads / rows, to_fit), threads);
  if (useful == 1) return 1;
  // With several rows a larger team takes them together and sums them in another order, which must
  // not depend on a measurement.
  const bool changes_sums = shape.batch_size > 1 && to_fit > threads / rows;
  const double handover = changes_sums ? kShortHandoverNs : handover_ns();
  const int64_t work = shape.num_gates * shape.hidden_size * shape.hidden_size;
  const double worthwhile = std::sqrt(work / (kMinPartWork * handover));
  return worthwhile < useful ? std::max<int64_t>(static_cast<int64_t>(worthwhile), 1) : useful;
}

}  // namespace

Plan::Plan(const LstmShape& shape, const int64_t* lengths, int64_t max_threads) {
  choose_split(shape, lengths, std::max<int64_t>(max_threads, 1));
  deal_rows(shape, lengths);
}

void Plan::choose_packing(const LstmShape& shape) {
  const int64_t steps = shape.batch_size * shape.seq_len;
  is_direct_backward_ = steps <= kDirectSteps;
  // Forward in place ends in sums over lanes, which long rows of weights outweigh.
  is_direct_forward_ =
      is_direct_backward_ && (steps <= kDirectForwardSteps || num_weights(shape) > kCachedWeights);
}

void Plan::choose_split(const LstmShape& shape, const int64_t* lengths, int64_t max_threads) {
  const int64_t B = shape.batch_size;
  const int64_t D = shape.num_directions;
  const int64_t steps =
      lengths ? std::accumulate(lengths, lengths + B, int64_t{0}) : B * shape.seq_len;
  const int64_t work = steps * D * num_weights(shape);
  const int64_t threads = std::clamp<int64_t>(work / kMinThreadWork, 1, max_threads);
  choose_packing(shape);
  team_size_ =
      is_direct_backward_ ? threads / std::gcd(threads, D) : choose_team_size(shape, threads);
  // Teams whose number D divides take one direction each; otherwise every team takes part in both.
  const int64_t teams = threads / team_size_;
  const int64_t base = teams % D == 0 ? teams / D : teams;
  const int64_t rounds = (B + base * kMaxTaskRows - 1) / (base * kMaxTaskRows);
  chunks_ = is_direct_backward_ ? 1 : std::min(base * rounds, B);
  num_teams_ = std::min(teams, chunks_ * D);
}

void Plan::deal_rows(const LstmShape& shape, const int64_t* lengths) {
  const int64_t B = shape.batch_size;
  const auto length_of = [&](int64_t row) { return lengths ? lengths[row] : shape.seq_len; };
  std::vector<int64_t> longest_first(B);
  std::iota(longest_first.begin(), longest_first.end(), int64_t{0});
  if (lengths)
    std::stable_sort(longest_first.begin(), longest_first.end(),
                     [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });

  // Dealt like cards, forth and back, so that every chunk gets long and short rows alike.
  std::vector<std::vector<int64_t>> dealt(chunks_);
  for (int64_t i = 0; i < B; ++i) {
    const int64_t position = i % (2 * chunks_);
    dealt[position < chunks_ ? position : 2 * chunks_ - 1 - position].push_back(longest_first[i]);
  }

  rows_.reserve(B);
  lengths_.reserve(B);
  std::vector<int64_t> begin;
  for (const std::vector<int64_t>& chunk : dealt) {
    begin.push_back(static_cast<int64_t>(rows_.size()));
    for (const int64_t row : chunk) {
      rows_.push_back(row);
      lengths_.push_back(length_of(row));
    }
    max_rows_ = std::max(max_rows_, static_cast<int64_t>(chunk.size()));
  }
  if (max_rows_ > kMaxTaskRows)
    throw std::logic_error("a task has more rows than kernels can take");
  for (int64_t chunk = 0; chunk < chunks_; ++chunk)
    for (int64_t direction = 0; direction < shape.num_directions; ++direction)
      tasks_.push_back({direction, static_cast<int64_t>(dealt[chunk].size()), &rows_[begin[chunk]],
                        &lengths_[begin[chunk]]});
}

}  // namespace fastrnn
