// The activated gates again, from what forward left: y and the inputs.
//
// In the same order of arithmetic as in forward, so they are the same to the bit before they are
// stored. As all states are known, no step waits for another one: steps are shared out to blocks.
#pragma once

#include "forward.h"

namespace fastrnn::cuda {

template <class A, int Hidden, bool Fused>
struct GatesBlock : ForwardBlock<A, Hidden, Fused> {
  using Base = ForwardBlock<A, Hidden, Fused>;
  using Element = typename A::Element;

  FASTRNN_DEVICE explicit GatesBlock(const ForwardArguments& arguments)
      : Base(arguments, state_stages(true)) {}

  // Starts the copies of a step's input and of the state before it.
  FASTRNN_DEVICE void copy_step(int step, int end, int stage) const {
    const ForwardArguments& arguments = this->arguments;
    const Sizes& sizes = arguments.sizes;
    const Sequence& sequence = this->copier.sequence;
    const bool needed = step < end && step < sequence.length;
    const Element* state = nullptr;
    if (needed && step > 0) {
      const int64_t row = sequence.row_of(step - 1, this->direction, sizes);
      state = static_cast<const Element*>(arguments.y) +
              (row * sizes.num_directions + this->direction) * sizes.hidden_size;
    } else if (needed && arguments.h_0) {
      const int64_t row = static_cast<int64_t>(this->direction) * sizes.batch_size + sequence.index;
      state = static_cast<const Element*>(arguments.h_0) + row * sizes.hidden_size;
    }
    this->copier.copy(this->state_stage(stage), Base::kStateStride,
                      reinterpret_cast<const char*>(state),
                      sizes.hidden_size * static_cast<int>(sizeof(Element)), arguments.state_width,
                      state != nullptr);
    if constexpr (Fused) this->copy_input(step, stage);
    gpu::commit_copies();
  }
};

template <class A, int Hidden, bool Fused>
FASTRNN_KERNEL(forward_layout(A::kPrecision, Hidden).threads)
lstm_gates(const ForwardArguments arguments) {
  using Block = GatesBlock<A, Hidden, Fused>;
  using Element = typename A::Element;
  const Sizes& sizes = arguments.sizes;
  const int steps = steps_of_tile(gpu::block_x(), sizes, arguments.sorted);
  const int begin = gpu::block_z() * arguments.steps_per_slice;
  const int end =
      steps - begin < arguments.steps_per_slice ? steps : begin + arguments.steps_per_slice;
  if (begin >= end) return;  // the whole block
  Block block(arguments);
  Element* const gates = static_cast<Element*>(arguments.gates);

  float start[Block::kFragments][4] = {};
  typename Block::RawShare share{};
  if constexpr (Fused)
    block.load_bias(start);
  else
    block.fetch_share(share, begin);
  for (int n = 0; n < kInputStages - 1; ++n) block.copy_step(begin + n, end, n);

  for (int step = begin; step < end; ++step) {
    const int stage = (step - begin) % kInputStages;
    gpu::wait_copies<kInputStages - 2>();
    gpu::barrier();  // the step is there, and all have read the one before it
    block.copy_step(step + kInputStages - 1, end, (stage + kInputStages - 1) % kInputStages);
    if constexpr (!Fused) {
      Block::unpack_share(start, share);
      if (step + 1 < end) block.fetch_share(share, step + 1);
    }
    float z[Block::kFragments][4];
#pragma unroll
    for (int group = 0; group < Block::kGroups; ++group) {
      typename Block::Sums sums;
      sums.start(start + group * Block::kGroup);
      if constexpr (Fused) block.add_input(sums, group, stage);
      block.add_state(sums, group, stage, true);
      sums.finish(z + group * Block::kGroup, block.lane);
    }

#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (!block.own.valid(r, step)) continue;
      const int64_t units = block.own.units(r, step, block.direction, sizes);
#pragma unroll
      for (int pair = 0; pair < Block::kPairs; ++pair) {
        if (!block.has_unit(pair)) continue;
        Gates active;
        cell_gates<typename A::Math>(z[2 * pair][r], z[2 * pair][2 + r], z[2 * pair + 1][r],
                                     z[2 * pair + 1][2 + r], active.i, active.f, active.g,
                                     active.o);
        store_gates(gates + 4 * (units + block.unit(pair)), raw_from_gates<A>(active, false));
      }
    }
  }
}

}  // namespace fastrnn::cuda
