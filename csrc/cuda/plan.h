// How a call is cut into blocks, and whether a GPU can run it: plain arithmetic, no GPU needed.
#pragma once

#include <string>
#include <vector>

#include "arguments.h"
#include "config.h"

namespace fastrnn::cuda {

struct Device {
  int major, minor;  // compute capability
  int multiprocessors;
  int shared_bytes;  // that one block may take, as an option
};

struct Problem {
  Precision precision;
  int64_t seq_len, batch_size, input_size, hidden_size, num_directions;
  bool training;
};

struct Plan {
  Precision precision;
  Sizes sizes;
  int hidden;           // padded to an instance's size
  int input_chunks;     // of the input's weights, where the kernels multiply the input; otherwise 0
  int tiles;            // of 8 sequences
  int device_shared;    // bytes of shared memory that a block may take
  int steps_per_slice;  // of the kernel that computes gates again, which needs no order of steps

  bool fuses_input() const { return input_chunks > 0; }
  int slices() const { return (sizes.seq_len + steps_per_slice - 1) / steps_per_slice; }

  int forward_threads() const { return forward_layout(precision, hidden).threads; }
  int backward_threads() const { return backward_layout(precision, hidden).threads; }
  int forward_shared() const {
    return forward_shared_bytes(precision, hidden, input_chunks, false);
  }
  int gates_shared() const { return forward_shared_bytes(precision, hidden, input_chunks, true); }
  int backward_shared() const { return backward_shared_bytes(precision, hidden); }

  int forward_chunks() const {
    return input_chunks + forward_layout(precision, hidden).recurrent.chunks;
  }
  int backward_chunks() const { return backward_layout(precision, hidden).recurrent.chunks; }

  // Bytes of packed weights that the kernels read.
  int64_t forward_weight_bytes() const {
    return int64_t{1} * sizes.num_directions * forward_chunks() * forward_fragments(hidden) *
           kFragmentBytes;
  }
  int64_t backward_weight_bytes() const {
    return int64_t{1} * sizes.num_directions * backward_chunks() * backward_fragments(hidden) *
           kFragmentBytes;
  }
};

// Reasons why a GPU cannot run a problem; none if it can.
std::vector<std::string> reasons_against(const Problem& problem, const Device& device);

// Only where there is no reason against it: std::invalid_argument otherwise.
Plan make_plan(const Problem& problem, const Device& device);

}  // namespace fastrnn::cuda
