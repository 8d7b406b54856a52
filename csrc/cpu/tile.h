// The one multiply-accumulate loop behind every product in the CPU kernels.
//
//   acc[j][v] += sum over k of  a[j * a_row + k * a_step] * b[k * b_step + v * width ...]
//
// R scalars of `a` are broadcast against N vectors of `b`; the R x N accumulators stay in
// registers. Forward (states times weights), the gradient of the states (gate gradients times
// weights) and the gradient of the weights (states transposed times gate gradients) differ only in
// the strides.
#pragma once

#include "simd.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Rows per tile: with N = 4, R * 4 accumulators and 4 vectors of `b` fill the register file (32 or
// 16 registers).
constexpr int kMaxTileRows = FASTRNN_VECTOR_BYTES == 64 ? 6 : 3;

template <class T, int R, int N>
struct Tile {
  Vec<T> acc[R][N];

  FASTRNN_INLINE void zero() {
    for (int j = 0; j < R; ++j)
      for (int v = 0; v < N; ++v) acc[j][v] = Vec<T>{};
  }

  // The same values in every row.
  FASTRNN_INLINE void start(const T* row) {
    for (int j = 0; j < R; ++j)
      for (int v = 0; v < N; ++v) acc[j][v] = load(row + v * kWidth<T>);
  }

  FASTRNN_INLINE void read(const T* rows, int64_t row_size) {
    for (int j = 0; j < R; ++j)
      for (int v = 0; v < N; ++v) acc[j][v] = load(rows + j * row_size + v * kWidth<T>);
  }

  FASTRNN_INLINE void write(T* rows, int64_t row_size) const {
    for (int j = 0; j < R; ++j)
      for (int v = 0; v < N; ++v) store(rows + j * row_size + v * kWidth<T>, acc[j][v]);
  }

  FASTRNN_INLINE void add_product(const T* a, int64_t a_row, const T* b) {
    Vec<T> bv[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) bv[v] = load(b + v * kWidth<T>);
#pragma GCC unroll 6
    for (int j = 0; j < R; ++j) {
      const T aj = a[j * a_row];
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) acc[j][v] += aj * bv[v];
    }
  }

  // With several `chains` every so many-th product is summed by itself: additions to one
  // accumulator wait for each other, 4 cycles at least, in which two units could do 8.
  template <int chains = 1>
  FASTRNN_INLINE void multiply_add(const T* a, int64_t a_row, int64_t a_step, const T* b,
                                   int64_t b_step, int64_t count) {
    Tile others[chains];  // but the first, which is this tile
#pragma GCC unroll 4
    for (int i = 1; i < chains; ++i) others[i].zero();
    int64_t k = 0;
    for (; k + chains <= count; k += chains) {
      add_product(a, a_row, b);
#pragma GCC unroll 4
      for (int i = 1; i < chains; ++i) others[i].add_product(a + i * a_step, a_row, b + i * b_step);
      a += chains * a_step;
      b += chains * b_step;
    }
    for (; k < count; ++k, a += a_step, b += b_step) add_product(a, a_row, b);
#pragma GCC unroll 4
    for (int i = 1; i < chains; ++i)
      for (int j = 0; j < R; ++j)
        for (int v = 0; v < N; ++v) acc[j][v] += others[i].acc[j][v];
  }
};

// Calls `body.template run<R, N>(first_row)` for tiles of nearly equal height that cover `rows`.
template <int N, class Body>
FASTRNN_INLINE void for_each_tile(int64_t rows, const Body& body) {
  const int64_t tiles = (rows + kMaxTileRows - 1) / kMaxTileRows;
  const int64_t height = rows / tiles;
  const int64_t taller = rows % tiles;  // so many tiles have one row more
  int64_t row = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t r = height + (tile < taller ? 1 : 0);
    switch (r) {
      case 1: body.template run<1, N>(row); break;
      case 2: body.template run<2, N>(row); break;
      case 3: body.template run<3, N>(row); break;
#if FASTRNN_VECTOR_BYTES == 64
      case 4: body.template run<4, N>(row); break;
      case 5: body.template run<5, N>(row); break;
      case 6: body.template run<6, N>(row); break;
#endif
      default: __builtin_unreachable();
    }
    row += r;
  }
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
