// All steps of a tile of sequences in one direction, from the last to the first.
//
// A thread owns two units of two sequences. From their gates and cell states it forms the gradients
// before activation, which go to shared memory; from there the gradient of the state before is
// W_hh^T times those of all units, and arrives in the registers of its owner. One barrier separates
// the steps, as there are two buffers. To memory, where the gates were, the gradients go while the
// products are under way, and what the next step needs is fetched a step ahead.
#pragma once

#include "../cell.h"
#include "operand.h"
#include "tile.h"

namespace fastrnn::cuda {

template <class A, int Hidden>
struct BackwardBlock {
  using Element = typename A::Element;
  static constexpr BackwardLayout kLayout = backward_layout(A::kPrecision, Hidden);
  static constexpr int kChunks = kLayout.recurrent.chunks;
  static constexpr int kAllFragments = backward_fragments(Hidden);
  static constexpr int kStride = row_bytes(kChunks);
  static constexpr int kStageBytes = kTileRows * kStride;

  // Four sums: K is long, and there is one fragment only.
  using Sums = Accumulator<A, 1, 4>;
  using RecurrentWeights = Weights<A, 1, kLayout.recurrent.resident>;

  // Of one step, as it is in memory: [unit][sequence].
  struct Saved {
    RawGates<Element> gates[2][2];
    float c_prev[2][2];
    Element grad_y[2][2];
  };

  const BackwardArguments& arguments;
  Lane lane;
  int direction, tile;
  uint4* shared_weights;
  char* stages;
  RecurrentWeights recurrent;
  OwnSequences own;

  FASTRNN_DEVICE explicit BackwardBlock(const BackwardArguments& args)
      : arguments(args),
        lane(Lane::of(gpu::thread_index())),
        direction(gpu::block_y()),
        tile(gpu::block_x()),
        own(OwnSequences::of(tile, lane, args.sizes, args.sorted)) {
    constexpr int kChunkWords = kAllFragments * kFragmentBytes / 16;
    constexpr int kInShared = kLayout.recurrent.in_shared();
    shared_weights = reinterpret_cast<uint4*>(gpu::shared_memory());
    stages = reinterpret_cast<char*>(shared_weights + kInShared * kChunkWords);
    fill_zero(stages, 2 * kStageBytes, kLayout.threads);
    const uint4* packed = static_cast<const uint4*>(args.weights) +
                          static_cast<int64_t>(direction) * kChunks * kChunkWords;
    recurrent.load(packed, kChunks, kAllFragments, lane.warp, lane);
    copy_words(shared_weights, packed + kLayout.recurrent.resident * kChunkWords,
               kInShared * kChunkWords * 16, kLayout.threads);
    gpu::barrier();
  }

  // Rows of C: the upper unit is 8 further than the lower one.
  FASTRNN_DEVICE int unit(int upper) const { return lane.warp * kMmaRows + lane.group + 8 * upper; }
  FASTRNN_DEVICE bool has_unit(int upper) const {
    return unit(upper) < arguments.sizes.hidden_size;
  }

  FASTRNN_DEVICE float of_state(const void* from, int upper, int r) const {
    if (!from || !own.exists(r) || !has_unit(upper)) return 0.0f;
    const int64_t at = own.state(r, direction, arguments.sizes) + unit(upper);
    return A::to_float(static_cast<const Element*>(from)[at]);
  }

  // Of a step, whose units lie at `now`.
  FASTRNN_DEVICE void fetch(Saved& saved, int step, const Offsets& now) const {
    const Element* gates = static_cast<const Element*>(arguments.gates);
    const Element* grad_y = static_cast<const Element*>(arguments.grad_y);
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        if (step < 0 || !own.valid(r, step) || !has_unit(upper)) continue;
        const int64_t at = now.at[r] + unit(upper);
        saved.gates[upper][r] = load_gates(gates + 4 * at);
        saved.c_prev[upper][r] =
            step > 0 ? arguments.cells[at - now.stride] : of_state(arguments.c_0, upper, r);
        if (grad_y) saved.grad_y[upper][r] = grad_y[at];
      }
  }

  // Some steps ahead of `fetch`, which then waits for the L2 cache at most.
  FASTRNN_DEVICE void prefetch(int step, const Offsets& now) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (step < 1 || !own.valid(r, step) || !has_unit(0)) continue;
      const int64_t at = now.at[r] + unit(0);
      gpu::prefetch(static_cast<const Element*>(arguments.gates) + 4 * at);
      gpu::prefetch(arguments.cells + at - now.stride);
      if (arguments.grad_y) gpu::prefetch(static_cast<const Element*>(arguments.grad_y) + at);
    }
  }

  // The gradients of four gates, as operand B; without matrix instructions they are floats as well.
  FASTRNN_DEVICE void store_operand(int stage, int upper, int r, const Gates& grad) const {
    char* const row = stages + stage * kStageBytes + (2 * lane.member + r) * kStride;
    store_gates(reinterpret_cast<Element*>(row) + gate_column(unit(upper), 0),
                raw_from_gates<A>(grad, true));
  }

  FASTRNN_DEVICE void start_products(Sums& products, int stage) const {
    const Rows rows{stages + stage * kStageBytes, kStride};
    const float zeros[1][4] = {};
    products.start(zeros);
    recurrent.add_resident(products, 0, rows, kChunks, lane, false);
    recurrent.add_shared(products, shared_weights, kAllFragments, lane.warp, rows, kChunks, lane,
                         false);
  }

  // A tile's share of the bias's gradient: the lanes of a group have the tile's sequences.
  FASTRNN_DEVICE void store_grad_bias(const Gates (&sums)[2]) const {
    if (!arguments.grad_bias_tiles) return;
    const Sizes& sizes = arguments.sizes;
    const int64_t block = static_cast<int64_t>(tile) * sizes.num_directions + direction;
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      const float parts[4] = {sums[upper].i, sums[upper].f, sums[upper].g, sums[upper].o};
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) {
        float sum = parts[gate] + gpu::shuffle_xor(parts[gate], 1);
        sum += gpu::shuffle_xor(sum, 2);
        if (lane.member == gate && has_unit(upper))
          arguments.grad_bias_tiles[(block * sizes.hidden_size + unit(upper)) * 4 + gate] = sum;
      }
    }
  }
};

template <class A, int Hidden>
struct BackwardPass : BackwardBlock<A, Hidden> {
  using Base = BackwardBlock<A, Hidden>;
  using Element = typename A::Element;

  float dh[2][2], dc[2][2];  // gradients of the states after a step: [unit][sequence]
  float c[2][2];             // cell states after it
  Offsets now;
  typename Base::Saved saved{};
  RawGates<Element> found[2][2];  // gradients of the gates, as they go to memory

  // As far as there are registers for it: where there are none, steps take longer anyway.
  static constexpr bool kStoresLate = sizeof(Element) == 2;
  static constexpr bool kFetchesEarly = kStoresLate && Hidden < 128;
  Gates grad_bias[2]{};

  FASTRNN_DEVICE BackwardPass(const BackwardArguments& arguments, int steps)
      : Base(arguments), now(Offsets::of(this->own, steps - 1, this->direction, arguments.sizes)) {
#pragma unroll
    for (int upper = 0; upper < 2; ++upper)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        dh[upper][r] = this->of_state(arguments.grad_h_n, upper, r);
        dc[upper][r] = this->of_state(arguments.grad_c_n, upper, r);
        c[upper][r] = last_cell(upper, r);
      }
    this->fetch(saved, steps - 1, now);
  }

  FASTRNN_DEVICE float last_cell(int upper, int r) const {
    const int last = this->own.sequences[r].length - 1;
    if (last < 0 || !this->has_unit(upper)) return 0.0f;
    const Offsets end = Offsets::of(this->own, last, this->direction, this->arguments.sizes);
    return this->arguments.cells[end.at[r] + this->unit(upper)];
  }

  FASTRNN_DEVICE void run_step(int step) {
    if constexpr (kFetchesEarly) {
      const typename Base::Saved saved_now = saved;
      fetch_ahead(step);
      differentiate(saved_now, step);
    } else {
      differentiate(saved, step);
      if constexpr (!kStoresLate) store(step);
      fetch_ahead(step);
    }
    gpu::barrier();
    typename Base::Sums products;
    this->start_products(products, step % 2);
    if constexpr (kStoresLate) store(step);
    float sums[1][4];
    products.finish(sums, this->lane);
#pragma unroll
    for (int upper = 0; upper < 2; ++upper)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        dh[upper][r] = this->own.valid(r, step) ? sums[0][2 * upper + r] : dh[upper][r];
    now.move(-1);
  }

  FASTRNN_DEVICE void fetch_ahead(int step) {
    Offsets ahead = now;
    ahead.move(-1);
    this->fetch(saved, step - 1, ahead);
    ahead.move(1 - kInputStages);
    this->prefetch(step - kInputStages, ahead);
  }

  // Past its end a sequence keeps its gradients; what is computed there goes nowhere.
  FASTRNN_DEVICE void differentiate(const typename Base::Saved& saved_now, int step) {
#pragma unroll
    for (int upper = 0; upper < 2; ++upper)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const bool valid = this->own.valid(r, step);
        const Gates gates = gates_from_raw<A>(saved_now.gates[upper][r]);
        const CellStep<float> cell{gates.i, gates.f, gates.g, gates.o, c[upper][r], 0.0f};
        const float c_prev = saved_now.c_prev[upper][r];
        const float grad_h = dh[upper][r] + A::to_float(saved_now.grad_y[upper][r]);
        const auto grad = cell_backward<typename A::Math>(cell, c_prev, grad_h, dc[upper][r]);
        const Gates gradients{grad.z_i, grad.z_f, grad.z_g, grad.z_o};
        this->store_operand(step % 2, upper, r, gradients);
        found[upper][r] = raw_from_gates<A>(gradients, false);
        c[upper][r] = valid ? c_prev : c[upper][r];
        dc[upper][r] = valid ? grad.c_prev : dc[upper][r];
        grad_bias[upper].i += valid ? gradients.i : 0.0f;
        grad_bias[upper].f += valid ? gradients.f : 0.0f;
        grad_bias[upper].g += valid ? gradients.g : 0.0f;
        grad_bias[upper].o += valid ? gradients.o : 0.0f;
      }
  }

  FASTRNN_DEVICE void store(int step) const {
    Element* const to = static_cast<Element*>(this->arguments.gates);
#pragma unroll
    for (int upper = 0; upper < 2; ++upper)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        if (this->own.valid(r, step) && this->has_unit(upper))
          store_gates(to + 4 * (now.at[r] + this->unit(upper)), found[upper][r]);
  }

  FASTRNN_DEVICE void end() const {
    this->store_grad_bias(grad_bias);
#pragma unroll
    for (int upper = 0; upper < 2; ++upper)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        if (!this->own.exists(r) || !this->has_unit(upper)) continue;
        const int64_t at =
            this->own.state(r, this->direction, this->arguments.sizes) + this->unit(upper);
        static_cast<Element*>(this->arguments.grad_h_0)[at] = A::from_float(dh[upper][r]);
        static_cast<Element*>(this->arguments.grad_c_0)[at] = A::from_float(dc[upper][r]);
      }
  }
};

template <class A, int Hidden>
FASTRNN_KERNEL(backward_layout(A::kPrecision, Hidden).threads)
lstm_backward(const BackwardArguments arguments) {
  const int steps = steps_of_tile(gpu::block_x(), arguments.sizes, arguments.sorted);
  BackwardPass<A, Hidden> pass(arguments, steps);
  for (int step = steps - 1; step >= 0; --step) pass.run_step(step);
  pass.end();
}

}  // namespace fastrnn::cuda
