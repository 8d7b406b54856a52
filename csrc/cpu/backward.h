// Backward pass of a set of rows, from each row's last step to its first.
//
// A step turns the gradients of h and c into those of the gates, multiplies them by the weights for
// the gradients of h_{t-1} and x_t, and keeps them in a chunk; a full chunk goes into the weight
// gradients by one product, so gate gradients never leave the cache.
#pragma once

#include "forward.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Calls `body.template run<N>(first_vector)` for panels of 4 vectors and the remaining 2 and 1.
template <class Body>
FASTRNN_INLINE void for_each_panel(int64_t vectors, const Body& body) {
  int64_t v = 0;
  for (; v + 4 <= vectors; v += 4) body.template run<4>(v);
  if (vectors - v >= 2) {
    body.template run<2>(v);
    v += 2;
  }
  if (vectors > v) body.template run<1>(v);
}

template <class T>
struct PackPanel {
  const T* from;  // [G][H][columns], one gate row after the other
  int64_t columns, H, padded_H, G;
  T* to;

  template <int N>
  void run(int64_t first_vector) const {
    constexpr int64_t panel = N * kWidth<T>;
    const int64_t first = first_vector * kWidth<T>;
    T* out = to + G * padded_H * first;
    for (int64_t gate = 0; gate < G; ++gate)
      for (int64_t unit = 0; unit < padded_H; ++unit)
        for (int64_t j = 0; j < panel; ++j) {
          const bool real = unit < H && first + j < columns;
          *out++ = real ? from[(gate * H + unit) * columns + first + j] : T(0);
        }
  }
};

template <class T>
void pack_backward(const LstmBackward<T>& args, int64_t direction, T* packed) {
  const Layout l = Layout::make(args.shape, kWidth<T>, args.grad_x != nullptr);
  const T* w_hh = args.w_hh + direction * l.G * l.H * l.H;
  for_each_panel(l.padded_H / l.width, PackPanel<T>{w_hh, l.H, l.H, l.padded_H, l.G, packed});
  if (!l.wants_grad_x) return;
  const T* w_ih = args.w_ih + direction * l.G * l.H * l.I;
  for_each_panel(l.padded_I / l.width,
                 PackPanel<T>{w_ih, l.I, l.H, l.padded_H, l.G, packed + l.gates * l.padded_H});
}

// Adds the chunk's gate gradients, times what they multiplied, to the weight gradients.
template <class T>
struct WeightGradient {
  const Layout& l;
  const T* gates;     // [rows][gate_row]
  const T* operands;  // [rows][operand_row]
  int64_t rows;
  T* sum;  // [I + H + 1][gates]

  template <int N>
  void run(int64_t first_vector) const {
    for_each_tile<N>(l.I + l.H + 1, Body{*this, first_vector * kWidth<T>});
  }

  struct Body {
    const WeightGradient& self;
    int64_t column;

    template <int R, int N>
    void run(int64_t first) const {
      const Layout& l = self.l;
      T* to = self.sum + first * l.gates + column;
      Tile<T, R, N> tile;
      for (int j = 0; j < R; ++j)
        for (int v = 0; v < N; ++v) tile.acc[j][v] = load(to + j * l.gates + v * kWidth<T>);
      tile.multiply_add(self.operands + first, 1, l.operand_row, self.gates + column, l.gate_row,
                        self.rows);
      for (int j = 0; j < R; ++j)
        for (int v = 0; v < N; ++v) store(to + j * l.gates + v * kWidth<T>, tile.acc[j][v]);
    }
  };
};

template <class T>
struct BackwardRows {
  static constexpr int64_t W = kWidth<T>;
  const LstmBackward<T>& args;
  const RowTask& task;
  const T* packed;
  T* weight_gradient;
  const Layout l;
  const int64_t D, B;
  T *dh, *dc, *gates, *operands;
  int64_t chunk_used = 0;

  BackwardRows(const LstmBackward<T>& args, const RowTask& task, const T* packed, T* scratch,
               T* weight_gradient)
      : args(args),
        task(task),
        packed(packed),
        weight_gradient(weight_gradient),
        l(Layout::make(args.shape, W, args.grad_x != nullptr)),
        D(args.shape.num_directions),
        B(args.shape.batch_size) {
    dh = scratch;
    dc = dh + task.num_rows * l.padded_H;
    gates = dc + task.num_rows * l.padded_H;
    operands = gates + l.chunk_rows(task.num_rows) * l.gate_row;
  }

  int64_t frame(int64_t row, int64_t s) const {
    return time_of(task.direction, task.lengths[row], s) * B + task.rows[row];
  }

  int64_t state_at(int64_t row) const { return (task.direction * B + task.rows[row]) * l.H; }

  void start(int64_t row) {
    const int64_t at = state_at(row);
    for (int64_t u = 0; u < l.padded_H; ++u) {
      dh[row * l.padded_H + u] = args.grad_h_n && u < l.H ? args.grad_h_n[at + u] : T(0);
      dc[row * l.padded_H + u] = args.grad_c_n && u < l.H ? args.grad_c_n[at + u] : T(0);
    }
    if (!args.grad_x) return;
    for (int64_t t = task.lengths[row]; t < args.shape.seq_len; ++t)
      __builtin_memset(grad_x(t * B + task.rows[row]), 0, l.I * sizeof(T));
  }

  T* grad_x(int64_t frame) const {
    return args.grad_x + (task.direction * args.shape.seq_len * B + frame) * l.I;
  }

  void finish(int64_t row) const {
    const int64_t at = state_at(row);
    __builtin_memcpy(args.grad_h_0 + at, dh + row * l.padded_H, l.H * sizeof(T));
    __builtin_memcpy(args.grad_c_0 + at, dc + row * l.padded_H, l.H * sizeof(T));
  }

  // A row's state before step `s`, among the results of all steps; null where it is zero.
  const T* state_before(int64_t row, int64_t s, const T* of_steps, int64_t step_size,
                        const T* initial) const {
    if (is_cut(args.reset, task, B, row, s)) return nullptr;
    if (s > 0) return of_steps + (frame(row, s - 1) * D + task.direction) * step_size;
    return initial ? initial + state_at(row) : nullptr;
  }

  // Gate gradients of one row, and the new dc.
  void differentiate_gates(int64_t row, int64_t s, T* to) {
    const int64_t at = frame(row, s) * D + task.direction;
    const T* reserve = args.reserve + at * kReservePlanes * l.H;
    const T* c_prev = state_before(row, s, args.reserve + 4 * l.H, kReservePlanes * l.H, args.c_0);
    for (int64_t u = 0; u < l.padded_H; u += W) {
      const int64_t count = l.H - u;
      CellStep<Vec<T>> step;
      step.i = load_first(reserve + u, count);
      step.f = load_first(reserve + l.H + u, count);
      step.g = load_first(reserve + 2 * l.H + u, count);
      step.o = load_first(reserve + 3 * l.H + u, count);
      step.c = load_first(reserve + 4 * l.H + u, count);
      const Vec<T> previous = c_prev ? load_first(c_prev + u, count) : Vec<T>{};
      Vec<T> dh_total = load(dh + row * l.padded_H + u);
      if (args.grad_y) dh_total += load_first(args.grad_y + at * l.H + u, count);
      T* dc_row = dc + row * l.padded_H + u;
      const auto grad = cell_backward<VectorMath<T>>(step, previous, dh_total, load(dc_row));
      store(dc_row, grad.c_prev);
      store(to + (l.G - 2) * l.padded_H + u, grad.z_g);
      store(to + (l.G - 1) * l.padded_H + u, grad.z_o);
      if (l.G == 4) {
        store(to + u, grad.z_i);
        store(to + l.padded_H + u, grad.z_f);
      } else {
        store(to + u, grad.z_i - grad.z_f);
      }
    }
  }

  void collect_operands(int64_t row, int64_t s, T* to) const {
    __builtin_memcpy(to, args.x + frame(row, s) * l.I, l.I * sizeof(T));
    const T* h_prev = state_before(row, s, args.y, l.H, args.h_0);
    if (h_prev)
      __builtin_memcpy(to + l.I, h_prev, l.H * sizeof(T));
    else
      __builtin_memset(to + l.I, 0, l.H * sizeof(T));
    if (h_prev && args.state_mask) apply_mask(row, to + l.I);
    to[l.I + l.H] = T(1);
  }

  void apply_mask(int64_t row, T* h) const {
    const T* mask = args.state_mask + state_at(row);
    for (int64_t u = 0; u < l.H; ++u) h[u] *= mask[u];
  }

  // From the gradient of the state as step `s` took it to that of the state that the step before
  // left.
  void leave_step(int64_t row, int64_t s) {
    T* dh_row = dh + row * l.padded_H;
    if (args.state_mask) apply_mask(row, dh_row);
    if (is_cut(args.reset, task, B, row, s)) {
      __builtin_memset(dh_row, 0, l.padded_H * sizeof(T));
      __builtin_memset(dc + row * l.padded_H, 0, l.padded_H * sizeof(T));
    }
  }

  // Gate gradients times one panel of weight columns: of h_{t-1} (into dh) or of x_t.
  struct Product {
    const BackwardRows& self;
    const T* step_gates;
    int64_t s, rows;
    const T* panels;
    bool into_grad_x;

    template <int N>
    void run(int64_t first_vector) const {
      for_each_tile<N>(rows, Body{*this, first_vector * W});
    }

    struct Body {
      const Product& product;
      int64_t column;

      template <int R, int N>
      void run(int64_t first) const {
        const BackwardRows& self = product.self;
        const Layout& l = self.l;
        Tile<T, R, N> tile;
        tile.zero();
        tile.multiply_add(product.step_gates + first * l.gate_row, l.gate_row, 1,
                          product.panels + l.gates * column, N * W, l.gates);
        for (int j = 0; j < R; ++j) {
          T* to = product.into_grad_x ? self.grad_x(self.frame(first + j, product.s)) + column
                                      : self.dh + (first + j) * l.padded_H + column;
          const int64_t limit = product.into_grad_x ? l.I - column : l.padded_H - column;
          for (int v = 0; v < N; ++v) store_first(to + v * W, tile.acc[j][v], limit - v * W);
        }
      }
    };
  };

  void flush_chunk() {
    if (chunk_used > 0 && weight_gradient)
      for_each_panel(l.gates / W,
                     WeightGradient<T>{l, gates, operands, chunk_used, weight_gradient});
    chunk_used = 0;
  }

  void run() {
    for (int64_t row = 0; row < task.num_rows; ++row) start(row);
    int64_t active = 0;
    for (int64_t s = task.lengths[0] - 1; s >= 0; --s) {
      while (active < task.num_rows && task.lengths[active] > s) ++active;
      if (chunk_used + active > l.chunk_rows(task.num_rows)) flush_chunk();
      T* step_gates = gates + chunk_used * l.gate_row;
      for (int64_t row = 0; row < active; ++row) {
        differentiate_gates(row, s, step_gates + row * l.gate_row);
        if (weight_gradient)
          collect_operands(row, s, operands + (chunk_used + row) * l.operand_row);
      }
      for_each_panel(l.padded_H / W, Product{*this, step_gates, s, active, packed, false});
      if (args.state_mask || args.reset)
        for (int64_t row = 0; row < active; ++row) leave_step(row, s);
      if (args.grad_x)
        for_each_panel(l.padded_I / W,
                       Product{*this, step_gates, s, active, packed + l.gates * l.padded_H, true});
      chunk_used += active;
    }
    flush_chunk();
    for (int64_t row = 0; row < task.num_rows; ++row) finish(row);
  }
};

template <class T>
void backward_rows(const LstmBackward<T>& args, const RowTask& task, const T* packed, T* scratch,
                   T* weight_gradient) {
  BackwardRows<T>(args, task, packed, scratch, weight_gradient).run();
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
