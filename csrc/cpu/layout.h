// Sizes of the packed weights and of the scratch memory, shared by the kernels and their caller.
//
// `static` throughout: this header is compiled for several instruction sets, whose copies must not
// be merged by the linker.
#pragma once

#include <cstdint>

#include "../lstm.h"

namespace fastrnn {

static inline int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// More rows than this per task bring no further reuse of weights, but fall out of the cache. No
// plan has more: kernels have arrays of this size.
constexpr int64_t kMaxTaskRows = 64;

constexpr int64_t kMaxGates = 4;

// Gate gradients of this many (step, row) pairs are collected before they go into the weight
// gradients: enough that a panel of them is reused from the first-level cache.
constexpr int64_t kGradientChunkRows = 192;

// A single row is bound by the bandwidth of the weights, so the input is multiplied for up to this
// many steps at a time.
constexpr int64_t kProjectedSteps = 6;

// Inputs below this size are not worth it.
constexpr int64_t kMinProjectedInput = 16;

// What forward has kept of this many units and steps is still in the cache when backward reads it.
constexpr int64_t kCachedUnitSteps = 50'000;

// Calls of up to this many steps, over all rows, may read the weights in place.
constexpr int64_t kDirectSteps = 16;

// Of equal pieces of work, every `count`-th belongs to one thread.
struct Share {
  int64_t index, count;

  bool has(int64_t piece) const { return piece % count == index; }
};

// One part of the hidden units, of those that a task is split into. Units from `real_end` on are
// padding. Work that is done once a row is dealt to the parts by rows.
struct Part {
  int64_t index, count;
  int64_t begin, end, real_end;

  bool has_row(int64_t row) const { return count == 1 || row % count == index; }

  template <class T>
  int64_t bytes() const {
    return (end - begin) * static_cast<int64_t>(sizeof(T));
  }
  template <class T>
  int64_t real_bytes() const {
    return (real_end - begin) * static_cast<int64_t>(sizeof(T));
  }
};

// All sizes in elements. `width` is the number of elements of a vector.
struct Layout {
  int64_t width, I, H, G;
  int64_t padded_H;  // H, rounded up to whole vectors
  int64_t padded_I;
  int64_t gates;        // G * padded_H
  int64_t state_row;    // one row of [x | h | padding]
  int64_t gate_row;     // one row of gate gradients
  int64_t operand_row;  // one row of [x | h_prev | 1], the other operand of the weight gradients
  bool wants_grad_x;

  static Layout make(const LstmShape& shape, int64_t width, bool wants_grad_x) {
    Layout l;
    l.width = width;
    l.I = shape.input_size;
    l.H = shape.hidden_size;
    l.G = shape.num_gates;
    l.padded_H = round_up(l.H, width);
    l.padded_I = round_up(l.I, width);
    l.gates = l.G * l.padded_H;
    // The additional 16 keep rows from falling into the same cache sets.
    l.state_row = round_up(l.I + l.padded_H, 16) + 16;
    l.gate_row = round_up(l.gates, 16) + 16;
    l.operand_row = round_up(l.I + l.H + 1, 16);
    l.wants_grad_x = wants_grad_x;
    return l;
  }

  // The units of a part, in whole vectors.
  Part part(int64_t index, int64_t count) const {
    if (count == 1) return {0, 1, 0, padded_H, H};  // a division takes as long as a short product
    const int64_t vectors = padded_H / width;
    const int64_t begin = vectors * index / count * width;
    const int64_t end = vectors * (index + 1) / count * width;
    const int64_t real_end = end < H ? end : H;
    return {index, count, begin, end, real_end > begin ? real_end : begin};
  }

  // Whether backward can multiply by the weights in place: only columns in whole vectors.
  bool fits_direct_backward() const { return H == padded_H && (!wants_grad_x || I == padded_I); }

  // Forward: [padded_H / width][I + H][G][width] weights, then [padded_H / width][G][width] biases.
  int64_t forward_weights() const { return gates * (I + H); }
  int64_t forward_packed() const { return round_up(forward_weights() + gates, 16); }
  // Two state buffers and c; for a single row also the input's share of some steps' gates.
  int64_t forward_scratch(int64_t rows) const {
    return round_up(rows * (2 * state_row + padded_H), 16) + (rows == 1 ? projection() : 0);
  }
  int64_t projection() const { return kProjectedSteps * gates; }

  // Backward: columns of w_hh, then of w_ih if wanted, in panels [gates][panel's columns]. No panel
  // of w_hh crosses from one part of the units into the next.
  int64_t backward_columns() const { return padded_H + (wants_grad_x ? padded_I : 0); }
  int64_t backward_packed() const { return round_up(gates * backward_columns(), 16); }
  // dh and dc, and the chunk's gate gradients and operands.
  int64_t backward_scratch(int64_t rows) const {
    const int64_t chunk = chunk_rows(rows);
    return round_up(2 * rows * padded_H + chunk * (gate_row + operand_row), 16);
  }
  int64_t chunk_rows(int64_t rows) const {
    return rows > kGradientChunkRows ? rows : kGradientChunkRows;
  }
  // Accumulated gradients, [I + H + 1][gates]: w_ih and w_hh transposed, then the bias.
  int64_t weight_gradient() const { return (I + H + 1) * gates; }
};

// The rows that one thread takes through all steps, longest first, so that the active rows of a
// step are always the first ones.
struct RowTask {
  int64_t direction;
  int64_t num_rows;
  const int64_t* rows;     // [num_rows] positions in the batch
  const int64_t* lengths;  // [num_rows] valid steps, descending
};

}  // namespace fastrnn
