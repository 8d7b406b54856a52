// Backward pass of a set of rows, from each row's last step to its first.
//
// A step turns the gradients of h and c into those of the gates, multiplies them by the weights for
// the gradients of h_{t-1} and x_t, and keeps them in a chunk; a full chunk goes into the weight
// gradients by one product, so gate gradients never leave the cache.
#pragma once

#include "direct.h"
#include "forward.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Calls `body.template run<N>(first_vector)` for panels of 4 vectors and the remaining 2 and 1 of
// the vectors [v, end).
template <class Body>
FASTRNN_INLINE void for_each_panel(int64_t v, int64_t end, const Body& body) {
  for (; v + 4 <= end; v += 4) body.template run<4>(v);
  if (end - v >= 2) {
    body.template run<2>(v);
    v += 2;
  }
  if (end > v) body.template run<1>(v);
}

template <class T>
struct PackPanel {
  const T* from;  // [G][H][columns], one gate row after the other
  int64_t columns, H, padded_H, G;
  const Share& share;
  T* to;

  template <int N>
  void run(int64_t first_vector) const {
    constexpr int64_t panel = N * kWidth<T>;
    const int64_t first = first_vector * kWidth<T>;
    if (!share.has(first_vector / 4)) return;
    const int64_t count = columns - first < panel ? columns - first : panel;
    T* out = to + G * padded_H * first;
    for (int64_t gate = 0; gate < G; ++gate)
      for (int64_t unit = 0; unit < padded_H; ++unit, out += panel) {
        const int64_t real = unit < H ? count : 0;
        if (real > 0)
          __builtin_memcpy(out, from + (gate * H + unit) * columns + first, real * sizeof(T));
        __builtin_memset(out + real, 0, (panel - real) * sizeof(T));
      }
  }
};

template <class T>
void pack_backward(const LstmBackward<T>& args, int64_t direction, int64_t parts,
                   const Share& share, T* packed) {
  constexpr int64_t W = kWidth<T>;
  const Layout l = Layout::make(args.shape, W, args.grad_x != nullptr);
  const T* w_hh = args.w_hh + direction * l.G * l.H * l.H;
  for (int64_t part = 0; part < parts; ++part) {
    const Part units = l.part(part, parts);
    for_each_panel(units.begin / W, units.end / W,
                   PackPanel<T>{w_hh, l.H, l.H, l.padded_H, l.G, share, packed});
  }
  if (!l.wants_grad_x) return;
  const T* w_ih = args.w_ih + direction * l.G * l.H * l.I;
  T* packed_input = packed + l.gates * l.padded_H;
  for_each_panel(0, l.padded_I / W,
                 PackPanel<T>{w_ih, l.I, l.H, l.padded_H, l.G, share, packed_input});
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
      tile.read(to, l.gates);
      tile.multiply_add(self.operands + first, 1, l.operand_row, self.gates + column, l.gate_row,
                        self.rows);
      tile.write(to, l.gates);
    }
  };
};

template <class T>
struct BackwardRows {
  static constexpr int64_t W = kWidth<T>;
  const LstmBackward<T>& args;
  const RowTask& task;
  Member& member;
  const T* packed;
  T* weight_gradient;
  const bool wants_weights;
  const Layout l;
  const bool fetches_ahead;
  const int64_t D, B;
  T *dh, *dc, *gates, *operands;

  BackwardRows(const LstmBackward<T>& args, const RowTask& task, Member& member, const T* packed,
               T* scratch, T* weight_gradient)
      : args(args),
        task(task),
        member(member),
        packed(packed),
        weight_gradient(weight_gradient),
        wants_weights(args.grad_w_ih != nullptr),
        l(Layout::make(args.shape, W, args.grad_x != nullptr)),
        fetches_ahead(task.num_rows > 1 &&
                      args.shape.seq_len * args.shape.batch_size * l.H > kCachedUnitSteps),
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

  void start(int64_t row, const Part& own) {
    const int64_t at = state_at(row);
    for (int64_t u = own.begin; u < own.end; ++u) {
      dh[row * l.padded_H + u] = args.grad_h_n && u < l.H ? args.grad_h_n[at + u] : T(0);
      dc[row * l.padded_H + u] = args.grad_c_n && u < l.H ? args.grad_c_n[at + u] : T(0);
    }
    if (!args.grad_x || !own.has_row(row)) return;
    for (int64_t t = task.lengths[row]; t < args.shape.seq_len; ++t)
      __builtin_memset(grad_x(t * B + task.rows[row]), 0, l.I * sizeof(T));
  }

  T* grad_x(int64_t frame) const {
    return args.grad_x + (task.direction * args.shape.seq_len * B + frame) * l.I;
  }

  void finish(int64_t row, const Part& own) const {
    const int64_t at = state_at(row) + own.begin;
    const int64_t from = row * l.padded_H + own.begin;
    __builtin_memcpy(args.grad_h_0 + at, dh + from, own.real_bytes<T>());
    __builtin_memcpy(args.grad_c_0 + at, dc + from, own.real_bytes<T>());
  }

  // A row's state before step `s`, among the results of all steps; null where it is zero.
  const T* state_before(int64_t row, int64_t s, const T* of_steps, int64_t step_size,
                        const T* initial) const {
    if (is_cut(args.reset, task, B, row, s)) return nullptr;
    if (s > 0) return of_steps + (frame(row, s - 1) * D + task.direction) * step_size;
    return initial ? initial + state_at(row) : nullptr;
  }

  // Gate gradients of one row, and the new dc.
  void differentiate_gates(int64_t row, int64_t s, T* to, const Part& own) {
    const int64_t at = frame(row, s) * D + task.direction;
    const T* reserve = args.reserve + at * kReservePlanes * l.H;
    const T* c_prev = state_before(row, s, args.reserve + 4 * l.H, kReservePlanes * l.H, args.c_0);
    for (int64_t u = own.begin; u < own.end; u += W) {
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
    if (h_prev && args.state_mask) apply_mask(row, to + l.I, 0, l.H);
    to[l.I + l.H] = T(1);
  }

  void apply_mask(int64_t row, T* h, int64_t begin, int64_t end) const {
    const T* mask = args.state_mask + state_at(row);
    for (int64_t u = begin; u < end; ++u) h[u] *= mask[u];
  }

  // From the gradient of the state as step `s` took it to that of the state that the step before
  // left.
  void leave_step(int64_t row, int64_t s, const Part& own) {
    T* dh_row = dh + row * l.padded_H;
    if (args.state_mask) apply_mask(row, dh_row, own.begin, own.real_end);
    if (is_cut(args.reset, task, B, row, s)) {
      __builtin_memset(dh_row + own.begin, 0, own.bytes<T>());
      __builtin_memset(dc + row * l.padded_H + own.begin, 0, own.bytes<T>());
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

    template <int R, int N>
    FASTRNN_INLINE void multiply(Tile<T, R, N>& tile, const T* from, int64_t column) const {
      const Layout& l = self.l;
      // The same for every width, as that of a panel depends on how the units are split.
      constexpr int chains = R == 1 ? 4 : 1;
      if (panels)
        return tile.template multiply_add<chains>(from, l.gate_row, 1, panels + l.gates * column,
                                                  N * W, l.gates);
      const int64_t columns = into_grad_x ? l.I : l.H;
      const T* weights = into_grad_x ? self.args.w_ih : self.args.w_hh;
      weights += self.task.direction * l.G * l.H * columns + column;
      tile.multiply_add(from, l.gate_row, 1, weights, columns, l.gates);
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
        product.multiply(tile, product.step_gates + first * l.gate_row, column);
        for (int j = 0; j < R; ++j) {
          T* to = product.into_grad_x ? self.grad_x(self.frame(first + j, product.s)) + column
                                      : self.dh + (first + j) * l.padded_H + column;
          const int64_t limit = product.into_grad_x ? l.I - column : l.padded_H - column;
          for (int v = 0; v < N; ++v) store_first(to + v * W, tile.acc[j][v], limit - v * W);
        }
      }
    };
  };

  // Inlined, as GCC drops calls of functions that do nothing but fetch.
  static FASTRNN_INLINE void prefetch(const T* from, int64_t count) {
    constexpr int64_t line = 64 / sizeof(T);
    for (int64_t i = 0; i < count; i += line) __builtin_prefetch(from + i, 0, 2);
  }

  // Fetches what step `s` will read for the first time. The hardware foresees it for a single row,
  // not for pieces of several that are walked through backwards.
  FASTRNN_INLINE void prefetch_step(int64_t row, int64_t s, const Part& own) const {
    const int64_t at = frame(row, s) * D + task.direction;
    const int64_t units = own.real_end - own.begin;
    const T* gates_of_step = args.reserve + at * kReservePlanes * l.H + own.begin;
    for (int64_t gate = 0; gate < 4; ++gate) prefetch(gates_of_step + gate * l.H, units);
    if (args.grad_y) prefetch(args.grad_y + at * l.H + own.begin, units);
    const bool collects = wants_weights && own.has_row(row);
    if (collects) prefetch(args.x + frame(row, s) * l.I, l.I);
    if (s == 0) return;
    const int64_t before = frame(row, s - 1) * D + task.direction;
    prefetch(args.reserve + (before * kReservePlanes + 4) * l.H + own.begin, units);
    if (collects) prefetch(args.y + before * l.H, l.H);
  }

  // Gate gradients of step `s`, of the own units, and the operands of the own rows, at `slot` in
  // the chunk.
  void differentiate_step(int64_t s, int64_t active, int64_t slot, const Part& own) {
    for (int64_t row = 0; row < active; ++row) {
      if (s > 0 && fetches_ahead) prefetch_step(row, s - 1, own);
      differentiate_gates(row, s, gates + (slot + row) * l.gate_row, own);
      if (wants_weights && own.has_row(row))
        collect_operands(row, s, operands + (slot + row) * l.operand_row);
    }
  }

  // From the gate gradients of all units: the gradients of the own units' states, and of the input,
  // whose panels are dealt to the parts by turns.
  void propagate_step(int64_t s, int64_t active, int64_t slot, const Part& own) {
    const T* step_gates = gates + slot * l.gate_row;
    for_each_panel(own.begin / W, own.end / W,
                   Product{*this, step_gates, s, active, packed, false});
    if (args.state_mask || args.reset)
      for (int64_t row = 0; row < active; ++row) leave_step(row, s, own);
    if (!args.grad_x) return;
    const T* panels = packed ? packed + l.gates * l.padded_H : nullptr;
    const Product of_input{*this, step_gates, s, active, panels, true};
    const int64_t vectors = l.padded_I / W;
    for (int64_t v = 4 * own.index; v < vectors; v += 4 * own.count)
      for_each_panel(v, v + 4 < vectors ? v + 4 : vectors, of_input);
  }

  void add_weight_gradient(int64_t rows, const Part& own) const {
    if (!packed) return write_weight_gradient(rows, own);
    const WeightGradient<T> product{l, gates, operands, rows, weight_gradient};
    if (own.count == 1) return for_each_panel(0, l.gates / W, product);
    for (int64_t gate = 0; gate < l.gates; gate += l.padded_H)
      for_each_panel((gate + own.begin) / W, (gate + own.end) / W, product);
  }

  // In place, from all steps of the call.
  void write_weight_gradient(int64_t rows, const Part& own) const {
    for (int64_t gate = 0; gate < l.G; ++gate) {
      const T* from = gates + gate * l.padded_H + own.begin;
      const int64_t units = own.real_end - own.begin;
      const int64_t to = (task.direction * l.G + gate) * l.H + own.begin;
      const auto write = [&](const T* operand, T* grad, int64_t columns) {
        for_each_panel(0, (columns + W - 1) / W,
                       DirectGradient<T>{from, l.gate_row, operand, l.operand_row, rows, units,
                                         grad + to * columns, columns});
      };
      write(operands, args.grad_w_ih, l.I);
      write(operands + l.I, args.grad_w_hh, l.H);
      for (int64_t u = 0; u < units; ++u) {
        T sum = 0;
        for (int64_t row = 0; row < rows; ++row) sum += from[row * l.gate_row + u];
        args.grad_bias[to + u] = sum;
      }
    }
  }

  // Rows of which step `s` exists.
  int64_t rows_at(int64_t s, int64_t rows) const {
    while (rows < task.num_rows && task.lengths[rows] > s) ++rows;
    return rows;
  }

  // A phase ends where a part needs what all others have made: between a step's gate gradients and
  // their product with the weights. The chunk is used anew only after all have left it.
  void run() {
    const int64_t parts = member.num_parts;
    const int64_t last = task.lengths[0] - 1;
    int64_t active = last < 0 ? 0 : rows_at(last, 0);
    int64_t slot = 0;
    member.run_phase([&](int64_t part) {
      const Part own = l.part(part, parts);
      for (int64_t row = 0; row < task.num_rows; ++row) start(row, own);
      if (active > 0) differentiate_step(last, active, slot, own);
    });
    for (int64_t s = last; s >= 0; --s) {
      const int64_t next_active = s > 0 ? rows_at(s - 1, active) : 0;
      const bool full = s == 0 || slot + active + next_active > l.chunk_rows(task.num_rows);
      const int64_t next_slot = full ? 0 : slot + active;
      member.run_phase([&](int64_t part) {
        const Part own = l.part(part, parts);
        propagate_step(s, active, slot, own);
        if (full && wants_weights) add_weight_gradient(slot + active, own);
        if (!full) differentiate_step(s - 1, next_active, next_slot, own);
      });
      if (full && s > 0)
        member.run_phase([&](int64_t part) {
          differentiate_step(s - 1, next_active, next_slot, l.part(part, parts));
        });
      slot = next_slot;
      active = next_active;
    }
    member.run_phase([&](int64_t part) {
      const Part own = l.part(part, parts);
      for (int64_t row = 0; row < task.num_rows; ++row) finish(row, own);
      if (last < 0 && wants_weights && !packed) write_weight_gradient(0, own);
    });
  }
};

template <class T>
void backward_rows(const LstmBackward<T>& args, const RowTask& task, Member& member,
                   const T* packed, T* scratch, T* weight_gradient) {
  BackwardRows<T>(args, task, member, packed, scratch, weight_gradient).run();
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
