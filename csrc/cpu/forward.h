// Forward pass of a set of rows: [x_t, h_{t-1}] times the packed weights, gates straight from the
// accumulators.
//
// Per step, blocks of `width` hidden units run outside and tiles of rows inside, so that a block's
// weights are fetched once for all rows of the thread.
#pragma once

#include "layout.h"
#include "tile.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Stands for a number of gates where functions differ by it.
template <int G>
struct Gates {};

// Transposes `width` rows of [rows][columns], from `first` on, into the lanes of one vector a
// column; rows beyond `count` are zeros. Column by column, as each write then fills a cache line.
template <class T>
void pack_lanes(const T* from, int64_t columns, int64_t first, int64_t count, T* to, int64_t step) {
  for (int64_t k = 0; k < columns; ++k, to += step)
    for (int64_t lane = 0; lane < kWidth<T>; ++lane)
      to[lane] = lane < count ? from[(first + lane) * columns + k] : T(0);
}

template <class T>
void pack_forward(const LstmForward<T>& args, int64_t direction, T* packed) {
  constexpr int64_t W = kWidth<T>;
  const Layout l = Layout::make(args.shape, W, false);
  const T* w_ih = args.w_ih + direction * l.G * l.H * l.I;
  const T* w_hh = args.w_hh + direction * l.G * l.H * l.H;
  const T* bias = args.bias ? args.bias + direction * l.G * l.H : nullptr;
  T* packed_bias = packed + l.forward_weights();
  for (int64_t unit = 0; unit < l.padded_H; unit += W)
    for (int64_t gate = 0; gate < l.G; ++gate) {
      const int64_t row = gate * l.H + unit;
      const int64_t count = l.H - unit;
      T* to = packed + unit * (l.I + l.H) * l.G + gate * W;
      pack_lanes(w_ih, l.I, row, count, to, l.G * W);
      pack_lanes(w_hh, l.H, row, count, to + l.I * l.G * W, l.G * W);
      for (int64_t lane = 0; lane < W; ++lane, ++packed_bias)
        *packed_bias = bias && lane < count ? bias[row + lane] : T(0);
    }
}

// The position of step `s` of a row in time: the reverse direction starts at the row's own end.
FASTRNN_INLINE int64_t time_of(int64_t direction, int64_t length, int64_t s) {
  return direction == 0 ? s : length - 1 - s;
}

// Whether the state is zero before step `s` of a row. Backwards in time the cut before a step is
// the one that its predecessor asks for: both directions are cut at the same places.
FASTRNN_INLINE bool is_cut(const uint8_t* reset, const RowTask& task, int64_t B, int64_t row,
                           int64_t s) {
  if (!reset || (task.direction == 1 && s == 0)) return false;
  const int64_t t = time_of(task.direction, task.lengths[row], s) + task.direction;
  return reset[t * B + task.rows[row]] != 0;
}

template <class T>
struct ForwardRows {
  static constexpr int64_t W = kWidth<T>;
  const LstmForward<T>& args;
  const RowTask& task;
  const T* packed;
  const Layout l;
  const int64_t D, B;
  T* state[2];  // rows of [x | h]: of this step, and of the next one in the making
  T* c;

  ForwardRows(const LstmForward<T>& args, const RowTask& task, const T* packed, T* scratch)
      : args(args),
        task(task),
        packed(packed),
        l(Layout::make(args.shape, W, false)),
        D(args.shape.num_directions),
        B(args.shape.batch_size) {
    state[0] = scratch;
    state[1] = state[0] + task.num_rows * l.state_row;
    c = state[1] + task.num_rows * l.state_row;
  }

  int64_t frame(int64_t row, int64_t s) const {  // index of (t, b)
    return time_of(task.direction, task.lengths[row], s) * B + task.rows[row];
  }

  void fetch_input(int64_t row, int64_t s, T* to) const {
    __builtin_memcpy(to, args.x + frame(row, s) * l.I, l.I * sizeof(T));
  }

  void start(int64_t row) {
    const int64_t at = (task.direction * B + task.rows[row]) * l.H;
    T* h = state[0] + row * l.state_row + l.I;
    T* cell = c + row * l.padded_H;
    for (int64_t u = 0; u < l.padded_H; ++u) {
      h[u] = args.h_0 && u < l.H ? args.h_0[at + u] : T(0);
      cell[u] = args.c_0 && u < l.H ? args.c_0[at + u] : T(0);
    }
    if (task.lengths[row] > 0)
      prepare_step(row, 0, state[0] + row * l.state_row);
    else
      finish(row, state[0]);
    clear_padding(row);
  }

  // A row of [x | h] as step `s` takes it; h is there already, as the step before left it.
  void prepare_step(int64_t row, int64_t s, T* to) const {
    fetch_input(row, s, to);
    T* h = to + l.I;
    if (args.state_mask) {
      const T* mask = args.state_mask + (task.direction * B + task.rows[row]) * l.H;
      for (int64_t u = 0; u < l.H; ++u) h[u] *= mask[u];
    }
    if (is_cut(args.reset, task, B, row, s)) {
      __builtin_memset(h, 0, l.padded_H * sizeof(T));
      __builtin_memset(c + row * l.padded_H, 0, l.padded_H * sizeof(T));
    }
  }

  void finish(int64_t row, const T* states) const {
    const int64_t at = (task.direction * B + task.rows[row]) * l.H;
    __builtin_memcpy(args.h_n + at, states + row * l.state_row + l.I, l.H * sizeof(T));
    __builtin_memcpy(args.c_n + at, c + row * l.padded_H, l.H * sizeof(T));
  }

  void clear_padding(int64_t row) const {
    for (int64_t t = task.lengths[row]; t < args.shape.seq_len; ++t)
      __builtin_memset(args.y + ((t * B + task.rows[row]) * D + task.direction) * l.H, 0,
                       l.H * sizeof(T));
  }

  // One tile of rows and one block of units, `block`, at step `s`.
  struct Body {
    const ForwardRows& self;
    int64_t s, block;
    const T* now;
    T* next;

    template <int R, int N>
    void run(int64_t first) const {
      const Layout& l = self.l;
      const int64_t K = l.I + l.H;
      const T* weights = self.packed + block * K * N * W;
      const T* bias = self.packed + l.forward_weights() + block * N * W;
      Tile<T, R, N> tile;
      for (int j = 0; j < R; ++j)
        for (int v = 0; v < N; ++v) tile.acc[j][v] = load(bias + v * W);
      tile.multiply_add(now + first * l.state_row, l.state_row, 1, weights, N * W, K);
      // By way of memory: all rows' sums and one row's gates do not fit into the registers at once.
      T sums[R][N][W];
      for (int j = 0; j < R; ++j)
        for (int v = 0; v < N; ++v) store(sums[j][v], tile.acc[j][v]);
      for (int j = 0; j < R; ++j)
        self.template apply_gates<N>(first + j, s, block * W, sums[j], next);
    }
  };

  static FASTRNN_INLINE CellStep<Vec<T>> step_of(const T (*z)[W], const T* cell, Gates<4>) {
    return cell_forward<VectorMath<T>>(load(z[0]), load(z[1]), load(z[2]), load(z[3]), load(cell));
  }

  static FASTRNN_INLINE CellStep<Vec<T>> step_of(const T (*z)[W], const T* cell, Gates<3>) {
    return coupled_cell_forward<VectorMath<T>>(load(z[0]), load(z[1]), load(z[2]), load(cell));
  }

  template <int N>
  FASTRNN_INLINE void apply_gates(int64_t row, int64_t s, int64_t unit, const T (*z)[W],
                                  T* next) const {
    T* cell = c + row * l.padded_H + unit;
    const auto step = step_of(z, cell, Gates<N>{});
    store(cell, step.c);
    store(next + row * l.state_row + l.I + unit, step.h);
    const int64_t count = l.H - unit;
    const int64_t at = frame(row, s) * D + task.direction;
    store_first(args.y + at * l.H + unit, step.h, count);
    if (args.reserve) {
      T* reserve = args.reserve + at * kReservePlanes * l.H + unit;
      store_first(reserve, step.i, count);
      store_first(reserve + l.H, step.f, count);
      store_first(reserve + 2 * l.H, step.g, count);
      store_first(reserve + 3 * l.H, step.o, count);
      store_first(reserve + 4 * l.H, step.c, count);
    }
  }

  void run() {
    for (int64_t row = 0; row < task.num_rows; ++row) start(row);
    int64_t active = task.num_rows;
    while (active > 0 && task.lengths[active - 1] == 0) --active;
    for (int64_t s = 0; active > 0; ++s) {
      T* now = state[s % 2];
      T* next = state[(s + 1) % 2];
      for (int64_t block = 0; block < l.padded_H / W; ++block) {
        const Body body{*this, s, block, now, next};
        l.G == 4 ? for_each_tile<4>(active, body) : for_each_tile<3>(active, body);
      }
      for (; active > 0 && task.lengths[active - 1] == s + 1; --active) finish(active - 1, next);
      for (int64_t row = 0; row < active; ++row) prepare_step(row, s + 1, next + row * l.state_row);
    }
  }
};

template <class T>
void forward_rows(const LstmForward<T>& args, const RowTask& task, const T* packed, T* scratch) {
  ForwardRows<T>(args, task, packed, scratch).run();
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
