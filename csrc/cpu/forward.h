// Forward pass of a set of rows: [x_t, h_{t-1}] times the packed weights, gates straight from the
// accumulators.
//
// Per step, blocks of `width` hidden units run outside and tiles of rows inside, so that a block's
// weights are fetched once for all rows of the thread. With several parts, each has some
// of the blocks, and all of them make a step.
#pragma once

#include "direct.h"
#include "layout.h"
#include "team.h"
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
void pack_forward(const LstmForward<T>& args, int64_t direction, const Share& share, T* packed) {
  constexpr int64_t W = kWidth<T>;
  const Layout l = Layout::make(args.shape, W, false);
  const T* w_ih = args.w_ih + direction * l.G * l.H * l.I;
  const T* w_hh = args.w_hh + direction * l.G * l.H * l.H;
  const T* bias = args.bias ? args.bias + direction * l.G * l.H : nullptr;
  for (int64_t unit = 0; unit < l.padded_H; unit += W) {
    if (!share.has(unit / W)) continue;
    T* packed_bias = packed + l.forward_weights() + unit * l.G;
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
  Member& member;
  const T* packed;
  const Layout l;
  const int64_t D, B;
  T* state[2];  // rows of [x | h]: of this step, and of the next one in the making
  T* c;
  T* projected;  // [kProjectedSteps][gates], W_ih x + b of some steps, or null

  ForwardRows(const LstmForward<T>& args, const RowTask& task, Member& member, const T* packed,
              T* scratch)
      : args(args),
        task(task),
        member(member),
        packed(packed),
        l(Layout::make(args.shape, W, false)),
        D(args.shape.num_directions),
        B(args.shape.batch_size) {
    state[0] = scratch;
    state[1] = state[0] + task.num_rows * l.state_row;
    c = state[1] + task.num_rows * l.state_row;
    const bool projects = packed && task.num_rows == 1 && l.I >= kMinProjectedInput;
    projected = projects ? scratch + l.forward_scratch(1) - l.projection() : nullptr;
  }

  int64_t frame(int64_t row, int64_t s) const {  // index of (t, b)
    return time_of(task.direction, task.lengths[row], s) * B + task.rows[row];
  }

  void fetch_input(int64_t row, int64_t s, T* to) const {
    __builtin_memcpy(to, args.x + frame(row, s) * l.I, l.I * sizeof(T));
  }

  void start(int64_t row, const Part& own) {
    const int64_t at = (task.direction * B + task.rows[row]) * l.H;
    T* h = state[0] + row * l.state_row + l.I;
    T* cell = c + row * l.padded_H;
    for (int64_t u = own.begin; u < own.end; ++u) {
      h[u] = args.h_0 && u < l.H ? args.h_0[at + u] : T(0);
      cell[u] = args.c_0 && u < l.H ? args.c_0[at + u] : T(0);
    }
    if (task.lengths[row] > 0)
      prepare_step(row, 0, state[0] + row * l.state_row, own);
    else
      finish(row, state[0], own);
    clear_padding(row, own);
  }

  // A row of [x | h] as step `s` takes it; h is there already, as the step before left it.
  void prepare_step(int64_t row, int64_t s, T* to, const Part& own) const {
    if (own.has_row(row) && !projected) fetch_input(row, s, to);
    T* h = to + l.I;
    if (args.state_mask) {
      const T* mask = args.state_mask + (task.direction * B + task.rows[row]) * l.H;
      for (int64_t u = own.begin; u < own.real_end; ++u) h[u] *= mask[u];
    }
    if (is_cut(args.reset, task, B, row, s)) {
      __builtin_memset(h + own.begin, 0, own.bytes<T>());
      __builtin_memset(c + row * l.padded_H + own.begin, 0, own.bytes<T>());
    }
  }

  void finish(int64_t row, const T* states, const Part& own) const {
    const int64_t at = (task.direction * B + task.rows[row]) * l.H + own.begin;
    const T* h = states + row * l.state_row + l.I + own.begin;
    __builtin_memcpy(args.h_n + at, h, own.real_bytes<T>());
    __builtin_memcpy(args.c_n + at, c + row * l.padded_H + own.begin, own.real_bytes<T>());
  }

  void clear_padding(int64_t row, const Part& own) const {
    for (int64_t t = task.lengths[row]; t < args.shape.seq_len; ++t)
      __builtin_memset(args.y + ((t * B + task.rows[row]) * D + task.direction) * l.H + own.begin,
                       0, own.real_bytes<T>());
  }

  const T* weights_of(int64_t block) const { return packed + block * W * l.G * (l.I + l.H); }
  const T* bias_of(int64_t block) const { return packed + l.forward_weights() + block * W * l.G; }

  // W_ih x + b of several steps of a single row, from `s` on, and one block of units.
  struct Projection {
    const ForwardRows& self;
    int64_t s, block;

    template <int R, int N>
    void run(int64_t first) const {
      const int64_t I = self.l.I;
      const int64_t to_next = (self.task.direction == 0 ? 1 : -1) * self.B * I;
      const T* x = self.args.x + self.frame(0, s + first) * I;
      Tile<T, R, N> tile;
      tile.start(self.bias_of(block));
      tile.multiply_add(x, to_next, 1, self.weights_of(block), N * W, I);
      tile.write(self.projected + first * self.l.gates + block * N * W, self.l.gates);
    }
  };

  // One tile of rows and one block of units, `block`, at step `s`.
  struct Body {
    const ForwardRows& self;
    int64_t s, block;
    T (*sums)[W];  // [rows][N][W]

    template <int R, int N>
    FASTRNN_INLINE void run(int64_t first) const {
      const Layout& l = self.l;
      const T* begin = self.bias_of(block);
      int64_t done = 0;  // of the operands
      if (self.projected) {
        begin = self.projected + s % kProjectedSteps * l.gates + block * N * W;
        done = l.I;
      }
      Tile<T, R, N> tile;
      tile.start(begin);
      tile.multiply_add(self.state[s % 2] + first * l.state_row + done, l.state_row, 1,
                        self.weights_of(block) + done * N * W, N * W, l.I + l.H - done);
      // By way of memory, as all rows' sums and one row's gates do not fit into the registers at
      // once; each tile has its own, so that none waits until those of the last one are read.
      T(*z)[W] = sums + first * N;
      tile.write(z[0], N * W);
      for (int j = 0; j < R; ++j)
        self.template apply_gates<N>(first + j, s, block * W, z + j * N, self.state[(s + 1) % 2]);
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

  template <class Tiles>
  FASTRNN_INLINE void run_tiles(int64_t rows, const Tiles& tiles) const {
    l.G == 4 ? for_each_tile<4>(rows, tiles) : for_each_tile<3>(rows, tiles);
  }

  FASTRNN_INLINE void step_packed(int64_t s, int64_t active, const Part& own) const {
    alignas(FASTRNN_VECTOR_BYTES) T sums[kMaxTaskRows * kMaxGates][W];
    for (int64_t block = own.begin / W; block < own.end / W; ++block)
      run_tiles(active, Body{*this, s, block, sums});
  }

  template <int N>
  void step_in_place(int64_t s, int64_t active, const Part& own) const {
    const DirectGates<T> gates{args, l, task.direction};
    T z[kDirectSteps][N][W];
    for (int64_t unit = own.begin; unit < own.end; unit += W) {
      gates.template run<N>(state[s % 2], active, unit, z);
      for (int64_t row = 0; row < active; ++row)
        apply_gates<N>(row, s, unit, z[row], state[(s + 1) % 2]);
    }
  }

  // The own units of all rows at step `s`, of which `remaining` rows have a further one.
  void step(int64_t s, int64_t active, int64_t remaining, const Part& own) const {
    T* next = state[(s + 1) % 2];
    if (projected && s % kProjectedSteps == 0) {
      const int64_t left = task.lengths[0] - s;
      const int64_t steps = left < kProjectedSteps ? left : kProjectedSteps;
      for (int64_t block = own.begin / W; block < own.end / W; ++block)
        run_tiles(steps, Projection{*this, s, block});
    }
    if (packed)
      step_packed(s, active, own);
    else
      l.G == 4 ? step_in_place<4>(s, active, own) : step_in_place<3>(s, active, own);
    for (int64_t row = remaining; row < active; ++row) finish(row, next, own);
    for (int64_t row = 0; row < remaining; ++row)
      prepare_step(row, s + 1, next + row * l.state_row, own);
  }

  // Rows of which step `s` exists.
  int64_t rows_at(int64_t s, int64_t rows) const {
    while (rows > 0 && task.lengths[rows - 1] <= s) --rows;
    return rows;
  }

  void run() {
    const int64_t parts = member.num_parts;
    member.run_phase([&](int64_t part) {
      for (int64_t row = 0; row < task.num_rows; ++row) start(row, l.part(part, parts));
    });
    int64_t active = rows_at(0, task.num_rows);
    for (int64_t s = 0; active > 0; ++s) {
      const int64_t remaining = rows_at(s + 1, active);
      member.run_phase([&](int64_t part) { step(s, active, remaining, l.part(part, parts)); });
      active = remaining;
    }
  }
};

template <class T>
void forward_rows(const LstmForward<T>& args, const RowTask& task, Member& member, const T* packed,
                  T* scratch) {
  ForwardRows<T>(args, task, member, packed, scratch).run();
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
