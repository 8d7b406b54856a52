// What the kernels are given: sizes and device memory, in types that host code can fill in.
//
// T = seq_len, B = batch_size, I = input_size, H = hidden_size, D = num_directions. Arrays are
// dense and row-major, of the call's type where nothing else is said, aligned to 16 bytes, and
// overlap only where that is said. "Gates" are arrays [T, B, D, H, 4]: the gates i, f, g, o of a
// unit lie side by side. Nothing past a sequence's length is read or written.
#pragma once

#include <cstdint>

namespace fastrnn::cuda {

struct Sizes {
  int seq_len;
  int batch_size;
  int input_size;
  int hidden_size;
  int num_directions;
  // From a step to the next, forward and in reverse: elements of [T, B, D, H] and of x.
  int64_t units_per_step[2];
  int64_t inputs_per_step[2];
};

// Sequences sorted by falling length, so that those of a tile are about equally long.
struct Sorted {
  const int64_t* order;    // [B] sequences, or null for all of length T, in the order they have
  const int32_t* lengths;  // [B] in that order, 0 <= length <= T
};

struct PackArguments {
  Sizes sizes;
  int hidden;        // padded
  int input_chunks;  // of W_ih, forward only; 0 leaves it out
  const void* w_ih;  // [D, 4H, I] or null
  const void* w_hh;  // [D, 4H, H]
  uint32_t* words;   // [D, chunks, fragments, 2, 32, 4]
};

// The forward kernel, and the kernel that computes the gates again from what forward left.
struct ForwardArguments {
  Sizes sizes;
  Sorted sorted;
  int input_chunks;     // of x that the kernel multiplies itself; 0 if `share` was made beforehand
  int input_width;      // bytes that rows of x are copied by: 16 or 4
  const void* x;        // [T, B, I], if input_chunks
  const void* bias;     // [D, 4H] or null, if input_chunks
  const void* share;    // gates: W_ih x + bias, unless input_chunks
  const void* weights;  // packed, W_ih (if input_chunks) and W_hh
  const void* h_0;      // [D, B, H] or null for zeros
  const void* c_0;      // [D, B, H] or null; forward only
  void* y;              // [T, B, D * H]: written by forward if not null; read by the other one
  void* h_n;            // [D, B, H]; forward only
  void* c_n;            // [D, B, H]; forward only
  float* cells;         // [T, B, D, H] or null; forward only
  void* gates;          // gates, activated; of the other kernel only; may be `share`
  int state_width;      // bytes that rows of y and h_0 are copied by: 16, 4 or 2; other kernel only
  int steps_per_slice;  // that a block of the other kernel takes
};

struct BackwardArguments {
  Sizes sizes;
  Sorted sorted;
  const void* weights;     // packed, W_hh transposed
  void* gates;             // gates, activated; their gradients before activation take their place
  const float* cells;      // [T, B, D, H]
  const void* c_0;         // [D, B, H] or null
  const void* grad_y;      // [T, B, D * H] or null for zeros
  const void* grad_h_n;    // [D, B, H] or null
  const void* grad_c_n;    // [D, B, H] or null
  void* grad_h_0;          // [D, B, H]
  void* grad_c_0;          // [D, B, H]
  float* grad_bias_tiles;  // [ceil(B / 8), D, H, 4], a sum per tile, or null if not wanted
};

}  // namespace fastrnn::cuda
