// A tile of sequences in one direction: which they are, how long, and where their steps lie.
#pragma once

#include "arguments.h"
#include "config.h"
#include "fragment.h"

namespace fastrnn::cuda {

// One sequence, going through its steps in one direction: the reverse one starts at its own end.
struct Sequence {
  int index = 0;
  int length = 0;  // 0 for places of the last tile that are left over

  FASTRNN_DEVICE static Sequence at(int place, const Sizes& sizes, const Sorted& sorted) {
    Sequence sequence;
    if (place < sizes.batch_size) {
      sequence.index = sorted.order ? static_cast<int>(sorted.order[place]) : place;
      sequence.length = sorted.order ? sorted.lengths[place] : sizes.seq_len;
    }
    return sequence;
  }

  FASTRNN_DEVICE int time_of(int step, int direction) const {
    return direction == 0 ? step : length - 1 - step;
  }

  // Row of [T, B], 64 bits wide: elements may be more than 2^31.
  FASTRNN_DEVICE int64_t row_of(int step, int direction, const Sizes& sizes) const {
    return static_cast<int64_t>(time_of(step, direction)) * sizes.batch_size + index;
  }
};

// Steps of a tile: those of its first, its longest sequence.
FASTRNN_DEVICE int steps_of_tile(int tile, const Sizes& sizes, const Sorted& sorted) {
  return Sequence::at(tile * kTileRows, sizes, sorted).length;
}

FASTRNN_DEVICE void fill_zero(char* shared, int bytes, int threads) {
  uint4* words = reinterpret_cast<uint4*>(shared);
  for (int n = gpu::thread_index(); n < bytes / 16; n += threads) words[n] = uint4{0, 0, 0, 0};
}

FASTRNN_DEVICE void copy_words(uint4* to, const uint4* from, int bytes, int threads) {
  for (int n = gpu::thread_index(); n < bytes / 16; n += threads) to[n] = from[n];
}

// Copies one row per sequence of the tile into shared memory. A thread always serves the same
// sequence, so that it need not look it up in every step.
struct RowCopier {
  Sequence sequence;
  int row, first, threads_per_row;

  FASTRNN_DEVICE static RowCopier of(int tile, int threads, const Sizes& sizes,
                                     const Sorted& sorted) {
    RowCopier copier;
    copier.threads_per_row = threads / kTileRows;
    copier.row = gpu::thread_index() / copier.threads_per_row;
    copier.first = gpu::thread_index() % copier.threads_per_row;
    copier.sequence = Sequence::at(tile * kTileRows + copier.row, sizes, sorted);
    return copier;
  }

  // `to` is the tile's first row, `from` this sequence's; zeros in its place if not `valid`.
  FASTRNN_DEVICE void copy(char* to, int stride, const char* from, int bytes, int width,
                           bool valid) const {
    char* const row_to = to + row * stride;
    if (width == 16) {
      for (int at = first * 16; at < bytes; at += threads_per_row * 16)
        gpu::copy_async<16>(row_to + at, valid ? from + at : nullptr, valid);
    } else if (width == 4) {
      for (int at = first * 4; at < bytes; at += threads_per_row * 4)
        gpu::copy_async<4>(row_to + at, valid ? from + at : nullptr, valid);
    } else {  // there are no such copies of 2 bytes
      for (int at = first * 2; at < bytes; at += threads_per_row * 2)
        *reinterpret_cast<uint16_t*>(row_to + at) =
            valid ? *reinterpret_cast<const uint16_t*>(from + at) : uint16_t{0};
    }
  }
};

// The two sequences, and the offsets of their units in [T, B, D, H], that a thread computes.
struct OwnSequences {
  Sequence sequences[2];
  bool exists[2];

  FASTRNN_DEVICE static OwnSequences of(int tile, const Lane& lane, const Sizes& sizes,
                                        const Sorted& sorted) {
    OwnSequences own;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int place = tile * kTileRows + 2 * lane.member + r;
      own.sequences[r] = Sequence::at(place, sizes, sorted);
      own.exists[r] = place < sizes.batch_size;
    }
    return own;
  }

  FASTRNN_DEVICE bool valid(int r, int step) const { return step < sequences[r].length; }

  FASTRNN_DEVICE int64_t units(int r, int step, int direction, const Sizes& sizes) const {
    const int64_t row = sequences[r].row_of(step, direction, sizes);
    return (row * sizes.num_directions + direction) * sizes.hidden_size;
  }

  // Of [D, B, H].
  FASTRNN_DEVICE int64_t state(int r, int direction, const Sizes& sizes) const {
    return (static_cast<int64_t>(direction) * sizes.batch_size + sequences[r].index) *
           sizes.hidden_size;
  }
};

}  // namespace fastrnn::cuda
