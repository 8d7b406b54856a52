// Which lane holds which element of a matrix instruction's operands.
//
// In 32-bit words, two elements of 16 bits or one of 32, the fragments of mma.m16n8k16 and of
// mma.m16n8k8 (TF32) are the same (PTX ISA manual, "Matrix Fragments"): with group = lane / 4 and
// member = lane % 4
//   A [16 rows, 8 words]: register r is row group + 8 (r % 2), word member + 4 (r / 2)
//   B [8 words, 8 columns]: register r is word member + 4 r, column group
//   C [16 rows, 8 columns]: register r is row group + 8 (r / 2), column 2 member + r % 2
// A chunk is two such steps, `half` 0 and 1, side by side.
#pragma once

#include "config.h"
#include "device.h"

namespace fastrnn::cuda {

struct Lane {
  int warp, lane, group, member;

  FASTRNN_DEVICE static Lane of(int thread) {
    return {thread / kWarpSize, thread % kWarpSize, thread % kWarpSize / 4, thread % 4};
  }
};

// Row of A's register in its fragment: 0 or 1 for the lower and the upper 8 rows, plus the group.
FASTRNN_DEVICE constexpr int a_row(int group, int reg) { return group + 8 * (reg % 2); }

// Word of A's register in its chunk.
FASTRNN_DEVICE constexpr int a_word(int member, int half, int reg) {
  return 8 * half + member + 4 * (reg / 2);
}

// The same where no matrix instruction is used: four words in a row, so that a lane fetches the
// other operand's in one piece. Any order is right that both operands share.
FASTRNN_DEVICE constexpr int a_word_exact(int member, int half, int reg) {
  return 4 * member + 2 * half + reg / 2;
}

// Forward, A's rows are gates: two fragments are a pair, gates i and f, then g and o, of 8 units.
FASTRNN_DEVICE constexpr int gate_of(int fragment, int reg) { return 2 * (fragment % 2) + reg % 2; }
FASTRNN_DEVICE constexpr int unit_of(int fragment, int group) { return 8 * (fragment / 2) + group; }

// Backward, K are gates: the four of a unit lie side by side, as in memory.
FASTRNN_DEVICE constexpr int gate_column(int unit, int gate) { return 4 * unit + gate; }

}  // namespace fastrnn::cuda
