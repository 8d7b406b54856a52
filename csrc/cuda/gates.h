// The activated gates again, from what forward left: y and the inputs.
//
// In the same order of arithmetic as in forward, so they are the same to the bit before they are
// stored. As all states are known, no step waits for another one: steps are shared out to blocks.
#pragma once

#include "forward.h"

namespace fastrnn::cuda {

template <class A, int Hidden, bool Fused>
struct GatesPass : ForwardBlock<A, Hidden, Fused> {
  using Base = ForwardBlock<A, Hidden, Fused>;
  using Element = typename A::Element;
  using Sums = typename Base::Sums;

  int end;  // of the block's steps
  Offsets now;
  float start[Base::kFragments][4];
  typename Base::RawShare share{};

  FASTRNN_DEVICE GatesPass(const ForwardArguments& arguments, int begin, int end)
      : Base(arguments, state_stages(true)),
        end(end),
        now(Offsets::of(this->own, begin, this->direction, arguments.sizes)) {
    if constexpr (Fused)
      this->load_bias(start);
    else
      this->fetch_share(share, begin, now);
    for (int n = 0; n < kInputStages - 1; ++n) copy_step(begin + n, n);
  }

  // The state before a step, of the copier's sequence; null for zeros.
  FASTRNN_DEVICE const Element* state_before(int step) const {
    const ForwardArguments& arguments = this->arguments;
    const Sizes& sizes = arguments.sizes;
    const Sequence& sequence = this->copier.sequence;
    if (step >= end || step >= sequence.length) return nullptr;
    if (step == 0) {
      const int64_t row = static_cast<int64_t>(this->direction) * sizes.batch_size + sequence.index;
      const Element* const h_0 = static_cast<const Element*>(arguments.h_0);
      return h_0 ? h_0 + row * sizes.hidden_size : nullptr;
    }
    const int64_t row = sequence.row_of(step - 1, this->direction, sizes);
    return static_cast<const Element*>(arguments.y) +
           (row * sizes.num_directions + this->direction) * sizes.hidden_size;
  }

  // Starts the copies of a step's input and of the state before it.
  FASTRNN_DEVICE void copy_step(int step, int stage) const {
    const Element* const state = state_before(step);
    const void* const any = this->arguments.y;
    const char* const from =
        state ? reinterpret_cast<const char*>(state) : static_cast<const char*>(any);
    const int bytes = this->arguments.sizes.hidden_size * static_cast<int>(sizeof(Element));
    char* const to = this->state_stage(stage);
    if (this->arguments.state_width == 16)
      this->copier.template copy<16>(to, Base::kStateStride, from, bytes, state);
    else if (this->arguments.state_width == 4)
      this->copier.template copy<4>(to, Base::kStateStride, from, bytes, state);
    else
      this->copier.copy_now(to, Base::kStateStride, from, bytes, state);
    if constexpr (Fused)
      this->copy_input(this->input_row(step), step < end && step < this->copier.sequence.length,
                       stage);
    gpu::commit_copies();
  }

  FASTRNN_DEVICE void run_step(int step, int stage) {
    gpu::wait_copies<kInputStages - 2>();
    gpu::barrier();  // the step is there, and all have read the one before it
    copy_step(step + kInputStages - 1, (stage + kInputStages - 1) % kInputStages);
    const Offsets here = now;
    now.move(1);
    if constexpr (!Fused) {
      Base::unpack_share(start, share);
      if (step + 1 < end) this->fetch_share(share, step + 1, now);
    }
    float z[Base::kFragments][4];
#pragma unroll
    for (int group = 0; group < Base::kGroups; ++group) {
      Sums sums;
      sums.start(start + group * Base::kGroup);
      if constexpr (Fused) this->add_input(sums, group, stage);
      this->add_state(sums, group, stage, true);
      sums.finish(z + group * Base::kGroup, this->lane);
    }
    store(z, step, here);
  }

  FASTRNN_DEVICE void store(const float (&z)[Base::kFragments][4], int step,
                            const Offsets& here) const {
    Element* const gates = static_cast<Element*>(this->arguments.gates);
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int pair = 0; pair < Base::kPairs; ++pair) {
        Gates active;
        cell_gates<typename A::Math>(z[2 * pair][r], z[2 * pair][2 + r], z[2 * pair + 1][r],
                                     z[2 * pair + 1][2 + r], active.i, active.f, active.g,
                                     active.o);
        if (this->own.valid(r, step) && this->has_unit(pair))
          store_gates(gates + 4 * (here.at[r] + this->unit(pair)),
                      raw_from_gates<A>(active, false));
      }
  }
};

template <class A, int Hidden, bool Fused>
FASTRNN_KERNEL(forward_layout(A::kPrecision, Hidden).threads)
lstm_gates(const ForwardArguments arguments) {
  const int steps = steps_of_tile(gpu::block_x(), arguments.sizes, arguments.sorted);
  const int slice = arguments.steps_per_slice, begin = gpu::block_z() * slice;
  const int end = steps - begin < slice ? steps : begin + slice;
  if (begin >= end) return;  // the whole block
  GatesPass<A, Hidden, Fused> pass(arguments, begin, end);
  for (int step = begin; step < end; ++step) pass.run_step(step, (step - begin) % kInputStages);
  gpu::wait_copies<0>();  // of steps that are no more
}

}  // namespace fastrnn::cuda
