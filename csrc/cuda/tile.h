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
template <int Threads, int MostBytes>
struct RowCopier {
  static constexpr int kThreadsPerRow = Threads / kTileRows;

  Sequence sequence;
  int row, first;

  FASTRNN_DEVICE static RowCopier of(int tile, const Sizes& sizes, const Sorted& sorted) {
    RowCopier copier;
    copier.row = gpu::thread_index() / kThreadsPerRow;
    copier.first = gpu::thread_index() % kThreadsPerRow;
    copier.sequence = Sequence::at(tile * kTileRows + copier.row, sizes, sorted);
    return copier;
  }

  // `to` is the tile's first row, `from` this sequence's, which is not read if not `valid`: zeros
  // take its place.
  template <int Width>
  FASTRNN_DEVICE void copy(char* to, int stride, const char* from, int bytes, bool valid) const {
    constexpr int kRound = kThreadsPerRow * Width;
#pragma unroll
    for (int n = 0; n < (MostBytes + kRound - 1) / kRound; ++n) {
      const int at = first * Width + n * kRound;
      if (at < bytes) gpu::copy_async<Width>(to + row * stride + at, from + at, valid);
    }
  }

  // The same at once, for rows that lie too odd for a copy that is not waited for.
  FASTRNN_DEVICE void copy_now(char* to, int stride, const char* from, int bytes,
                               bool valid) const {
    for (int at = first * 2; at < bytes; at += kThreadsPerRow * 2)
      *reinterpret_cast<uint16_t*>(to + row * stride + at) =
          valid ? *reinterpret_cast<const uint16_t*>(from + at) : uint16_t{0};
  }
};

// The two sequences that a thread computes.
struct OwnSequences {
  Sequence sequences[2];
  int first_place, places;

  FASTRNN_DEVICE static OwnSequences of(int tile, const Lane& lane, const Sizes& sizes,
                                        const Sorted& sorted) {
    OwnSequences own;
    own.first_place = tile * kTileRows + 2 * lane.member;
    own.places = sizes.batch_size;
#pragma unroll
    for (int r = 0; r < 2; ++r) own.sequences[r] = Sequence::at(own.first_place + r, sizes, sorted);
    return own;
  }

  // In the last tile there may be fewer than eight.
  FASTRNN_DEVICE bool exists(int r) const { return first_place + r < places; }

  FASTRNN_DEVICE bool valid(int r, int step) const { return step < sequences[r].length; }

  // Of [D, B, H].
  FASTRNN_DEVICE int64_t state(int r, int direction, const Sizes& sizes) const {
    return (static_cast<int64_t>(direction) * sizes.batch_size + sequences[r].index) *
           sizes.hidden_size;
  }
};

// Where the units of a thread's two sequences lie in [T, B, D, H] at some step. To go on by a step
// is one addition, where each offset by itself takes several products of 64 bits.
struct Offsets {
  int64_t at[2];
  int64_t stride;  // from a step to the next

  FASTRNN_DEVICE static Offsets of(const OwnSequences& own, int step, int direction,
                                   const Sizes& sizes) {
    Offsets offsets;
    const int64_t row = static_cast<int64_t>(sizes.num_directions) * sizes.hidden_size;
#pragma unroll
    for (int r = 0; r < 2; ++r)
      offsets.at[r] = own.sequences[r].row_of(step, direction, sizes) * row +
                      static_cast<int64_t>(direction) * sizes.hidden_size;
    offsets.stride = sizes.units_per_step[direction];
    return offsets;
  }

  FASTRNN_DEVICE void move(int steps) {
#pragma unroll
    for (int r = 0; r < 2; ++r) at[r] += steps * stride;
  }
};

}  // namespace fastrnn::cuda
