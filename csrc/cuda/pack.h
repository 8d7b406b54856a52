// Weights into the order in which warps fetch them: 16 bytes for each lane, one after the other.
#pragma once

#include "arguments.h"
#include "fragment.h"
#include "precision.h"

namespace fastrnn::cuda {

constexpr int kPackThreads = 256;

template <class A, bool Transposed>
struct Packer {
  using Element = typename A::Element;
  static constexpr int kWordElements = 4 / static_cast<int>(sizeof(Element));
  static constexpr int kChunkElements = kChunkBytes / static_cast<int>(sizeof(Element));

  const PackArguments& arguments;
  int direction;

  // W[gate of unit, column] of one direction; zero outside of it, where units are padded.
  FASTRNN_DEVICE Element weight(const void* from, int width, int gate, int unit, int column) const {
    const int hidden_size = arguments.sizes.hidden_size;
    if (unit >= hidden_size || column >= width) return Element{0};
    const int64_t row = static_cast<int64_t>(direction * 4 + gate) * hidden_size + unit;
    return static_cast<const Element*>(from)[row * width + column];
  }

  // Element `k` of A's row: in register `reg` of a lane of this group.
  FASTRNN_DEVICE Element element(int chunk, int fragment, int group, int reg, int k) const {
    if constexpr (Transposed) {
      const int column = fragment * kMmaRows + a_row(group, reg);
      const int gates = chunk * kChunkElements + k;
      return weight(arguments.w_hh, arguments.sizes.hidden_size, gates % 4, gates / 4, column);
    } else {
      const int gate = gate_of(fragment, reg), unit = unit_of(fragment, group);
      const bool of_input = chunk < arguments.input_chunks;
      const int column = (of_input ? chunk : chunk - arguments.input_chunks) * kChunkElements + k;
      return of_input ? weight(arguments.w_ih, arguments.sizes.input_size, gate, unit, column)
                      : weight(arguments.w_hh, arguments.sizes.hidden_size, gate, unit, column);
    }
  }

  FASTRNN_DEVICE uint32_t word(int chunk, int fragment, int half, const Lane& lane, int reg) const {
    const int at =
        A::kMatrixUnits ? a_word(lane.member, half, reg) : a_word_exact(lane.member, half, reg);
    const Element first = element(chunk, fragment, lane.group, reg, at * kWordElements);
    if constexpr (kWordElements == 1) {
      return A::round_operand(gpu::bits_from_float(first));
    } else {
      const Element second = element(chunk, fragment, lane.group, reg, at * kWordElements + 1);
      return first | static_cast<uint32_t>(second) << 16;
    }
  }
};

// A block per chunk (x) and direction (y).
template <class A, bool Transposed>
FASTRNN_KERNEL(kPackThreads)
lstm_pack(const PackArguments arguments, int chunks, int fragments) {
  const Packer<A, Transposed> packer{arguments, gpu::block_y()};
  const int chunk = gpu::block_x();
  const int words = fragments * kFragmentBytes / 4;
  uint32_t* const to =
      arguments.words + (static_cast<int64_t>(gpu::block_y()) * chunks + chunk) * words;
  for (int n = gpu::thread_index(); n < words; n += kPackThreads) {
    const int reg = n % 4, lane = n / 4 % kWarpSize, half = n / 4 / kWarpSize % 2;
    const int fragment = n / 4 / kWarpSize / 2;
    to[n] = packer.word(chunk, fragment, half, Lane::of(lane), reg);
  }
}

}  // namespace fastrnn::cuda
