// What an instance of the kernels holds where: plain numbers, for host and device.
//
// A block takes a tile of 8 sequences in one direction through all steps. Hidden units are padded
// to a size for which there is an instance. Products are W h and W^T dz, the weights being the
// operand A of the matrix instructions; K, the side that is summed over, is cut into chunks of 64
// bytes: two instructions, and what one ldmatrix fetches for 8 sequences.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define FASTRNN_BOTH __host__ __device__ constexpr  // for host and device code
#else
#define FASTRNN_BOTH constexpr
#endif

namespace fastrnn::cuda {

enum class Precision { half, bfloat16, tf32, exact };  // the last two take and give float32

constexpr int kPaddedSizes[] = {32, 64, 128};
constexpr int kMaxHidden = 128;
constexpr int kMaxFusedInput = 96;

constexpr int kWarpSize = 32;
constexpr int kTileRows = 8;
constexpr int kMmaRows = 16;
constexpr int kChunkBytes = 64;
constexpr int kFragmentBytes = kMmaRows * kChunkBytes;  // of A, for one chunk
constexpr int kRowPadding = 16;  // keeps rows in different banks: an odd number of 16-byte groups
constexpr int kInputStages = 4;  // steps of input in shared memory: one in use, three on the way

FASTRNN_BOTH int element_bytes(Precision precision) {
  return precision == Precision::half || precision == Precision::bfloat16 ? 2 : 4;
}

FASTRNN_BOTH int chunks_of(int elements, Precision precision) {
  return (elements * element_bytes(precision) + kChunkBytes - 1) / kChunkBytes;
}

FASTRNN_BOTH int row_bytes(int chunks) { return chunks * kChunkBytes + kRowPadding; }

// One kernel's A operand: `chunks` of K, the first `resident` ones in registers, the others in
// shared memory, as the registers do not hold them all.
struct OperandLayout {
  int chunks;
  int resident;

  FASTRNN_BOTH int in_shared() const { return chunks > resident ? chunks - resident : 0; }
};

// The kernels that go forward. A pair of 16-row fragments holds the four gates of 8 units.
struct ForwardLayout {
  int pairs;  // per warp
  int threads;
  OperandLayout recurrent;
  int resident_input;  // chunks; those beyond are in shared memory
};

FASTRNN_BOTH ForwardLayout forward_layout(Precision precision, int hidden) {
  const bool wide = element_bytes(precision) == 4;
  const int chunks = chunks_of(hidden, precision);
  ForwardLayout layout{};
  layout.pairs = hidden == 128 ? 2 : 1;
  layout.threads = hidden / 8 / layout.pairs * kWarpSize;
  // As many as fit into the 255 registers of a thread, found by compiling: W_hh comes first.
  layout.recurrent = {chunks, chunks};
  if (hidden == 128 && wide) layout.recurrent.resident = precision == Precision::exact ? 3 : 4;
  layout.resident_input = hidden == 128 ? (wide ? 0 : 1) : 3;
  return layout;
}

// The kernel that goes backward: a warp owns 16 units, K are the gates of all units.
struct BackwardLayout {
  int threads;
  OperandLayout recurrent;
};

FASTRNN_BOTH BackwardLayout backward_layout(Precision precision, int hidden) {
  const int chunks = chunks_of(4 * hidden, precision);
  const int most = precision == Precision::exact ? 12 : 16;
  return {hidden / kMmaRows * kWarpSize, {chunks, chunks < most ? chunks : most}};
}

// 16-row fragments of the two operands.
FASTRNN_BOTH int forward_fragments(int hidden) { return 4 * hidden / kMmaRows; }
FASTRNN_BOTH int backward_fragments(int hidden) { return hidden / kMmaRows; }

// Shared memory of a block, in this order: chunks of W_hh, then of W_ih, that are not resident; the
// state's rows; the input's rows.
FASTRNN_BOTH int forward_weight_bytes(const ForwardLayout& layout, int hidden, int input_chunks) {
  const OperandLayout input{input_chunks, layout.resident_input};
  return (layout.recurrent.in_shared() + input.in_shared()) * forward_fragments(hidden) *
         kFragmentBytes;
}

FASTRNN_BOTH int state_stages(bool replay) { return replay ? kInputStages : 2; }

FASTRNN_BOTH int forward_shared_bytes(Precision precision, int hidden, int input_chunks,
                                      bool replay) {
  const ForwardLayout layout = forward_layout(precision, hidden);
  const int state = state_stages(replay) * kTileRows * row_bytes(layout.recurrent.chunks);
  const int input = input_chunks ? kInputStages * kTileRows * row_bytes(input_chunks) : 0;
  return forward_weight_bytes(layout, hidden, input_chunks) + state + input;
}

FASTRNN_BOTH int backward_shared_bytes(Precision precision, int hidden) {
  const BackwardLayout layout = backward_layout(precision, hidden);
  return layout.recurrent.in_shared() * backward_fragments(hidden) * kFragmentBytes +
         2 * kTileRows * row_bytes(layout.recurrent.chunks);
}

}  // namespace fastrnn::cuda
