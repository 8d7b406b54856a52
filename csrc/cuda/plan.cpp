#include "plan.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace fastrnn::cuda {
namespace {

constexpr int kMaxSlices = 65535;       // of a grid's third dimension
constexpr int kMinStepsPerSlice = 32;   // they must pay for a block's fetching all weights
constexpr int kBlocksPerProcessor = 4;  // so that the last ones to end leave little idle

// The size of the instance that takes so many units, 0 if none does. Up to 128 one block holds the
// recurrent weights; instances for more will be clusters of blocks that hold a part each.
int padded_size(int64_t hidden_size) {
  for (const int size : kPaddedSizes)
    if (hidden_size <= size) return size;
  return 0;
}

bool has_code_for(const Device& device) {
  // Machine code for 8.0 to 10.x, and PTX that 12.0 and newer compile; 11.0 takes neither.
  return device.major >= 8 && device.major != 11;
}

// Chunks of the input that fit into the shared memory next to everything else; 0 if it is too wide.
int fused_chunks(const Problem& problem, const Device& device, int hidden) {
  if (problem.input_size > kMaxFusedInput) return 0;
  const int chunks = chunks_of(static_cast<int>(problem.input_size), problem.precision);
  // What forward fuses, gates must fuse: they are to be the same to the bit.
  const int needed = std::max(
      forward_shared_bytes(problem.precision, hidden, chunks, false),
      problem.training ? forward_shared_bytes(problem.precision, hidden, chunks, true) : 0);
  return needed <= device.shared_bytes ? chunks : 0;
}

int least_shared_bytes(const Problem& problem, int hidden) {
  const int forward = forward_shared_bytes(problem.precision, hidden, 0, false);
  if (!problem.training) return forward;
  return std::max({forward, forward_shared_bytes(problem.precision, hidden, 0, true),
                   backward_shared_bytes(problem.precision, hidden)});
}

std::string text(int64_t number) { return std::to_string(number); }

}  // namespace

std::vector<std::string> reasons_against(const Problem& problem, const Device& device) {
  std::vector<std::string> reasons;
  if (!has_code_for(device))
    reasons.push_back(
        "there are kernels for compute capability 8.0 to 10.x and 12.0 or newer, not "
        "for " +
        text(device.major) + "." + text(device.minor));
  constexpr int64_t kMost = std::numeric_limits<int>::max() / 2;
  if (std::max({problem.seq_len, problem.batch_size, problem.input_size}) > kMost)
    reasons.push_back("T, B and I may be at most " + text(kMost));
  const int hidden = padded_size(problem.hidden_size);
  if (hidden == 0) {
    reasons.push_back("hidden_size is " + text(problem.hidden_size) +
                      "; one block holds the recurrent weights of at most " + text(kMaxHidden) +
                      " units");
    return reasons;
  }
  const int needed = least_shared_bytes(problem, hidden);
  if (needed > device.shared_bytes)
    reasons.push_back("the kernels for hidden_size up to " + text(hidden) + " take " +
                      text(needed) + " bytes of shared memory" +
                      (problem.training ? " in training" : "") + "; a block may have " +
                      text(device.shared_bytes));
  return reasons;
}

Plan make_plan(const Problem& problem, const Device& device) {
  const std::vector<std::string> reasons = reasons_against(problem, device);
  if (!reasons.empty()) throw std::invalid_argument(reasons.front());
  Plan plan{};
  plan.precision = problem.precision;
  const int64_t units = problem.batch_size * problem.num_directions * problem.hidden_size;
  const int64_t inputs = problem.batch_size * problem.input_size;
  plan.sizes = {static_cast<int>(problem.seq_len),
                static_cast<int>(problem.batch_size),
                static_cast<int>(problem.input_size),
                static_cast<int>(problem.hidden_size),
                static_cast<int>(problem.num_directions),
                {units, -units},
                {inputs, -inputs}};
  plan.hidden = padded_size(problem.hidden_size);
  plan.device_shared = device.shared_bytes;
  plan.input_chunks = fused_chunks(problem, device, plan.hidden);
  plan.tiles = (plan.sizes.batch_size + kTileRows - 1) / kTileRows;
  const int64_t tiles = int64_t{1} * plan.tiles * plan.sizes.num_directions;
  const int64_t wanted = int64_t{1} * kBlocksPerProcessor * device.multiprocessors;
  const int64_t slices = std::clamp<int64_t>((wanted + tiles - 1) / tiles, 1, kMaxSlices);
  const int64_t steps = (problem.seq_len + slices - 1) / slices;
  plan.steps_per_slice = static_cast<int>(std::max<int64_t>(steps, kMinStepsPerSlice));
  return plan;
}

}  // namespace fastrnn::cuda
