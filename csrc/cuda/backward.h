// All steps of a tile of sequences in one direction, from the last to the first.
//
// A thread owns two units of two sequences. From their gates and cell states it forms the gradients
// before activation, which go to memory, where the gates were, and to shared memory. From there
// the gradient of the state before is W_hh^T times those of all units; it arrives in the registers
// of its owner. One barrier separates the steps, as there are two buffers.
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
    if (!from || !own.exists[r] || !has_unit(upper)) return 0.0f;
    const int64_t at = own.state(r, direction, arguments.sizes) + unit(upper);
    return A::to_float(static_cast<const Element*>(from)[at]);
  }

  FASTRNN_DEVICE void fetch(Saved& saved, int step) const {
    const Sizes& sizes = arguments.sizes;
    const Element* gates = static_cast<const Element*>(arguments.gates);
    const Element* grad_y = static_cast<const Element*>(arguments.grad_y);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (step < 0 || !own.valid(r, step)) continue;
      const int64_t now = own.units(r, step, direction, sizes);
      const int64_t before = step > 0 ? own.units(r, step - 1, direction, sizes) : 0;
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        if (!has_unit(upper)) continue;
        saved.gates[upper][r] = load_gates(gates + 4 * (now + unit(upper)));
        saved.c_prev[upper][r] =
            step > 0 ? arguments.cells[before + unit(upper)] : of_state(arguments.c_0, upper, r);
        if (grad_y) saved.grad_y[upper][r] = grad_y[now + unit(upper)];
      }
    }
  }

  // Some steps ahead of `fetch`, which then waits for the L2 cache at most.
  FASTRNN_DEVICE void prefetch(int step) const {
    if (step < 1) return;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (!own.valid(r, step)) continue;
      const int64_t now = own.units(r, step, direction, arguments.sizes) + unit(0);
      gpu::prefetch(static_cast<const Element*>(arguments.gates) + 4 * now);
      gpu::prefetch(arguments.cells + own.units(r, step - 1, direction, arguments.sizes) + unit(0));
      if (arguments.grad_y) gpu::prefetch(static_cast<const Element*>(arguments.grad_y) + now);
    }
  }

  // The gradients of four gates, as operand B; without matrix instructions they are floats as well.
  FASTRNN_DEVICE void store_operand(int stage, int upper, int r, const Gates& grad) const {
    char* const row = stages + stage * kStageBytes + (2 * lane.member + r) * kStride;
    store_gates(reinterpret_cast<Element*>(row) + gate_column(unit(upper), 0),
                raw_from_gates<A>(grad, true));
  }

  FASTRNN_DEVICE void multiply(float (*sums)[4], int stage) const {
    const Rows rows{stages + stage * kStageBytes, kStride};
    const float zeros[1][4] = {};
    Sums products;
    products.start(zeros);
    recurrent.add_resident(products, 0, rows, kChunks, lane, false);
    recurrent.add_shared(products, shared_weights, kAllFragments, lane.warp, rows, kChunks, lane,
                         false);
    products.finish(sums, lane);
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
FASTRNN_KERNEL(backward_layout(A::kPrecision, Hidden).threads)
lstm_backward(const BackwardArguments arguments) {
  using Block = BackwardBlock<A, Hidden>;
  using Element = typename A::Element;
  const Sizes& sizes = arguments.sizes;
  const Block block(arguments);
  const OwnSequences& own = block.own;
  const int direction = block.direction;
  const int steps = steps_of_tile(block.tile, sizes, arguments.sorted);
  Element* const grad_gates = static_cast<Element*>(arguments.gates);

  float dh[2][2], dc[2][2], c[2][2] = {};
  Gates grad_bias[2] = {};
#pragma unroll
  for (int upper = 0; upper < 2; ++upper)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      dh[upper][r] = block.of_state(arguments.grad_h_n, upper, r);
      dc[upper][r] = block.of_state(arguments.grad_c_n, upper, r);
      const int last = own.sequences[r].length - 1;
      if (last >= 0 && block.has_unit(upper))
        c[upper][r] = arguments.cells[own.units(r, last, direction, sizes) + block.unit(upper)];
    }

  typename Block::Saved saved{};
  block.fetch(saved, steps - 1);
  for (int step = steps - 1; step >= 0; --step) {
    const typename Block::Saved now = saved;
    block.fetch(saved, step - 1);
    block.prefetch(step - kInputStages);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (!own.valid(r, step)) continue;
      const int64_t units = own.units(r, step, direction, sizes);
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        if (!block.has_unit(upper)) continue;
        const Gates gates = gates_from_raw<A>(now.gates[upper][r]);
        const CellStep<float> cell{gates.i, gates.f, gates.g, gates.o, c[upper][r], 0.0f};
        const float c_prev = now.c_prev[upper][r];
        const float grad_h = dh[upper][r] + A::to_float(now.grad_y[upper][r]);
        const auto grad = cell_backward<typename A::Math>(cell, c_prev, grad_h, dc[upper][r]);
        c[upper][r] = c_prev;
        dc[upper][r] = grad.c_prev;
        const Gates found{grad.z_i, grad.z_f, grad.z_g, grad.z_o};
        grad_bias[upper].i += found.i;
        grad_bias[upper].f += found.f;
        grad_bias[upper].g += found.g;
        grad_bias[upper].o += found.o;
        store_gates(grad_gates + 4 * (units + block.unit(upper)), raw_from_gates<A>(found, false));
        block.store_operand(step % 2, upper, r, found);
      }
    }
    gpu::barrier();
    float sums[1][4];
    block.multiply(sums, step % 2);
#pragma unroll
    for (int upper = 0; upper < 2; ++upper)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        if (own.valid(r, step)) dh[upper][r] = sums[0][2 * upper + r];
  }

  block.store_grad_bias(grad_bias);
#pragma unroll
  for (int upper = 0; upper < 2; ++upper)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (!own.exists[r] || !block.has_unit(upper)) continue;
      const int64_t at = own.state(r, direction, sizes) + block.unit(upper);
      static_cast<Element*>(arguments.grad_h_0)[at] = A::from_float(dh[upper][r]);
      static_cast<Element*>(arguments.grad_c_0)[at] = A::from_float(dc[upper][r]);
    }
}

}  // namespace fastrnn::cuda
