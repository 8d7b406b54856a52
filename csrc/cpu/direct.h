// Products with the weights as they lie in memory, for calls of few steps.
//
// Packing reads and writes all weights before a step reads them again. A call of one step, as
// models make that feed their output back in, is faster when it reads them once, in
// place. The same goes for the gradients of the weights, which such a call writes once and in
// place.
#pragma once

#include "layout.h"
#include "tile.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class T>
FASTRNN_INLINE T sum_of_lanes(Vec<T> v) {
  T lanes[kWidth<T>];
  store(lanes, v);
  for (int half = kWidth<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// Dot products of R rows of states with one row of weights of each of N gates.
template <class T, int R, int N>
struct Dots {
  Vec<T> acc[R][N] = {};

  // `gate_step` lies between the gates' rows of weights. States may be read beyond `count`, up to a
  // whole vector; weights may not.
  FASTRNN_INLINE void add(const T* states, int64_t state_row, const T* weights, int64_t gate_step,
                          int64_t count) {
    for (int64_t k = 0; k < count; k += kWidth<T>) {
      Vec<T> w[N];
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) w[v] = load_first(weights + v * gate_step + k, count - k);
#pragma GCC unroll 4
      for (int j = 0; j < R; ++j) {
        const Vec<T> s = load(states + j * state_row + k);
#pragma GCC unroll 4
        for (int v = 0; v < N; ++v) acc[j][v] += s * w[v];
      }
    }
  }
};

// The gates' sums before activation of `rows` rows of [x | h] and one block of units.
template <class T>
struct DirectGates {
  static constexpr int kTileRows = FASTRNN_VECTOR_BYTES == 64 ? 4 : 2;
  static constexpr int64_t W = kWidth<T>;
  const LstmForward<T>& args;
  const Layout& l;
  int64_t direction;

  template <int N>
  void run(const T* states, int64_t rows, int64_t unit, T (*z)[N][W]) const {
    const int64_t count = l.H - unit < W ? l.H - unit : W;
    for (int64_t lane = 0; lane < count; ++lane) {
      int64_t row = 0;
      for (; row + kTileRows <= rows; row += kTileRows)
        tile<kTileRows, N>(states + row * l.state_row, unit + lane, lane, z + row);
      for (; row < rows; ++row) tile<1, N>(states + row * l.state_row, unit + lane, lane, z + row);
    }
    for (int64_t row = 0; row < rows; ++row)
      for (int gate = 0; gate < N; ++gate)
        for (int64_t lane = count; lane < W; ++lane) z[row][gate][lane] = T(0);
  }

 private:
  template <int R, int N>
  FASTRNN_INLINE void tile(const T* states, int64_t unit, int64_t lane, T (*z)[N][W]) const {
    const int64_t first = direction * N * l.H + unit;  // row of the first gate
    Dots<T, R, N> dots;
    dots.add(states, l.state_row, args.w_ih + first * l.I, l.H * l.I, l.I);
    dots.add(states + l.I, l.state_row, args.w_hh + first * l.H, l.H * l.H, l.H);
    for (int gate = 0; gate < N; ++gate) {
      const T bias = args.bias ? args.bias[first + gate * l.H] : T(0);
      for (int j = 0; j < R; ++j) z[j][gate][lane] = sum_of_lanes<T>(dots.acc[j][gate]) + bias;
    }
  }
};

// Gate gradients transposed times one operand of theirs, straight into the weights' gradient.
template <class T>
struct DirectGradient {
  static constexpr int64_t W = kWidth<T>;
  const T* gates;  // [rows][gate_row], from the first of `units` units of a gate on
  int64_t gate_row;
  const T* operands;  // [rows][operand_row]
  int64_t operand_row;
  int64_t rows, units;
  T* grad;  // [units][columns]
  int64_t columns;

  template <int N>
  void run(int64_t first_vector) const {
    for_each_tile<N>(units, Body{*this, first_vector * W});
  }

  struct Body {
    const DirectGradient& self;
    int64_t column;

    template <int R, int N>
    void run(int64_t first) const {
      Tile<T, R, N> tile;
      tile.zero();
      tile.multiply_add(self.gates + first, 1, self.gate_row, self.operands + column,
                        self.operand_row, self.rows);
      for (int j = 0; j < R; ++j)
        for (int v = 0; v < N; ++v)
          store_first(self.grad + (first + j) * self.columns + column + v * W, tile.acc[j][v],
                      self.columns - column - v * W);
    }
  };
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
