// Products of weights (A) with the rows of 8 sequences (B), fragment by fragment.
#pragma once

#include "fragment.h"
#include "precision.h"

namespace fastrnn::cuda {

// Rows of operand B in shared memory, each `stride` bytes after the other.
struct Rows {
  const char* first;
  int stride;
};

// What a warp's fragments add up to, a chunk at a time. `Ways` sums are kept side by side, where a
// single one would have each instruction wait for the one before it.
template <class A, int Fragments, int Ways, bool matrix_units = A::kMatrixUnits>
class Accumulator;

template <class A, int Fragments, int Ways>
class Accumulator<A, Fragments, Ways, true> {
 public:
  FASTRNN_DEVICE void start(const float (*initial)[4]) {
#pragma unroll
    for (int way = 0; way < Ways; ++way)
#pragma unroll
      for (int n = 0; n < Fragments; ++n)
#pragma unroll
        for (int r = 0; r < 4; ++r) sums_[way][n][r] = way == 0 ? initial[n][r] : 0.0f;
  }

  // Adds chunk `k` of B times the words of A. `rounds`: B was copied as it was.
  FASTRNN_DEVICE void add(const uint32_t (*a)[2][4], const Rows& b, int k, int way,
                          const Lane& lane, bool rounds) {
    uint32_t words[4];
    gpu::load_matrices(words,
                       b.first + lane.lane % 8 * b.stride + k * kChunkBytes + lane.lane / 8 * 16);
    if (rounds)
#pragma unroll
      for (int m = 0; m < 4; ++m) words[m] = A::round_operand(words[m]);
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int n = 0; n < Fragments; ++n)
        A::multiply(sums_[(2 * way + half) % Ways][n], a[n][half], words[2 * half],
                    words[2 * half + 1]);
  }

  FASTRNN_DEVICE void finish(float (*sums)[4], const Lane&) const {
#pragma unroll
    for (int n = 0; n < Fragments; ++n)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        sums[n][r] = sums_[0][n][r];
#pragma unroll
        for (int way = 1; way < Ways; ++way) sums[n][r] += sums_[way][n][r];
      }
  }

 private:
  float sums_[Ways][Fragments][4];
};

// Without matrix instructions, from the same fragments: a lane multiplies its words of A with all 8
// sequences; at the end the four lanes of a group share out the sequences and add up.
template <class A, int Fragments, int Ways>
class Accumulator<A, Fragments, Ways, false> {
 public:
  FASTRNN_DEVICE void start(const float (*initial)[4]) {
#pragma unroll
    for (int n = 0; n < Fragments; ++n)
#pragma unroll
      for (int r = 0; r < 4; ++r) initial_[n][r] = initial[n][r];
#pragma unroll
    for (int n = 0; n < Fragments; ++n)
#pragma unroll
      for (int upper = 0; upper < 2; ++upper)
#pragma unroll
        for (int row = 0; row < kTileRows; ++row) parts_[n][upper][row] = 0.0f;
  }

  FASTRNN_DEVICE void add(const uint32_t (*a)[2][4], const Rows& b, int k, int, const Lane& lane,
                          bool) {
#pragma unroll
    for (int row = 0; row < kTileRows; ++row) {
      gpu::fence_compiler();  // else all rows are loaded first, into registers that there are not
      const uint4 words = *reinterpret_cast<const uint4*>(b.first + row * b.stride +
                                                          k * kChunkBytes + lane.member * 16);
      const float values[4] = {gpu::float_from_bits(words.x), gpu::float_from_bits(words.y),
                               gpu::float_from_bits(words.z), gpu::float_from_bits(words.w)};
#pragma unroll
      for (int n = 0; n < Fragments; ++n)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int reg = 0; reg < 4; ++reg)
            parts_[n][reg % 2][row] +=
                gpu::float_from_bits(a[n][half][reg]) * values[2 * half + reg / 2];
    }
  }

  FASTRNN_DEVICE void finish(float (*sums)[4], const Lane& lane) const {
    const bool later_half = lane.member & 2, later_pair = lane.member & 1;
#pragma unroll
    for (int n = 0; n < Fragments; ++n)
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        const float (&parts)[kTileRows] = parts_[n][upper];
        float halves[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) halves[j] = kept(later_half, parts[j], parts[4 + j], 2);
#pragma unroll
        for (int j = 0; j < 2; ++j)
          sums[n][2 * upper + j] =
              initial_[n][2 * upper + j] + kept(later_pair, halves[j], halves[2 + j], 1);
      }
  }

 private:
  // This lane keeps one of two values, gives the other away, and adds what it gets for it.
  FASTRNN_DEVICE static float kept(bool later, float first, float second, int mask) {
    return (later ? second : first) + gpu::shuffle_xor(later ? first : second, mask);
  }

  float initial_[Fragments][4];
  float parts_[Fragments][2][kTileRows];
};

// A warp's fragments of A, packed as pack.h does it: [chunk][fragment][half][lane] of 16 bytes. The
// first Resident chunks are in registers; the others are read from shared memory.
template <class A, int Fragments, int Resident>
class Weights {
 public:
  // `packed` are all chunks, of `all_fragments` each; those of this warp begin at `first_fragment`.
  FASTRNN_DEVICE void load(const uint4* packed, int chunks, int all_fragments, int first_fragment,
                           const Lane& lane) {
#pragma unroll
    for (int k = 0; k < Resident; ++k)
      if (k < chunks) fetch<Fragments>(words_[k], packed, k, all_fragments, first_fragment, lane);
  }

  // Adds the products of some of the fragments, from `first` on.
  template <int Some, int Ways>
  FASTRNN_DEVICE void add_resident(Accumulator<A, Some, Ways>& to, int first, const Rows& b,
                                   int chunks, const Lane& lane, bool rounds) const {
#pragma unroll
    for (int k = 0; k < Resident; ++k)
      if (k < chunks) to.add(words_[k] + first, b, k, k, lane, rounds);
  }

  // `shared` are the chunks from Resident on, packed in the same way; `first_fragment` of them all.
  template <int Some, int Ways>
  FASTRNN_DEVICE void add_shared(Accumulator<A, Some, Ways>& to, const uint4* shared,
                                 int all_fragments, int first_fragment, const Rows& b, int chunks,
                                 const Lane& lane, bool rounds) const {
#pragma unroll 1  // else their loads are all done first, into registers that there are not
    for (int even = Resident; even < chunks; even += 2)
#pragma unroll
      for (int way = 0; way < 2; ++way) {  // known when compiled, as registers have no index
        const int k = even + way;
        if (k >= chunks) break;
        uint32_t words[Some][2][4];
        fetch<Some>(words, shared, k - Resident, all_fragments, first_fragment, lane);
        to.add(words, b, k, way, lane, rounds);
      }
  }

 private:
  template <int Some>
  FASTRNN_DEVICE static void fetch(uint32_t (*words)[2][4], const uint4* packed, int k,
                                   int all_fragments, int first_fragment, const Lane& lane) {
#pragma unroll
    for (int n = 0; n < Some; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int fragment = k * all_fragments + first_fragment + n;
        const uint4 quad = packed[(fragment * 2 + half) * kWarpSize + lane.lane];
        words[n][half][0] = quad.x;
        words[n][half][1] = quad.y;
        words[n][half][2] = quad.z;
        words[n][half][3] = quad.w;
      }
  }

  uint32_t words_[Resident > 0 ? Resident : 1][Fragments][2][4];
};

}  // namespace fastrnn::cuda
