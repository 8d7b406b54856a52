// All steps of a tile of sequences in one direction, W_hh on chip.
//
// A thread owns one unit (or two) of two sequences: their four gates end up in its registers, where
// the cell state stays. Per step it reads all units' states from shared memory, and writes its own
// to the other of two buffers; one barrier separates the steps. The input of the next step is
// multiplied before that barrier, while others still compute; those of later steps are on the way.
// (Without matrix instructions nothing is left over to do it with: there it is multiplied in turn.)
// What a step gives goes to memory in the next one, while its products are under way.
#pragma once

#include "../cell.h"
#include "operand.h"
#include "tile.h"

namespace fastrnn::cuda {

// What forward, and the kernel that computes the gates again, have in common.
template <class A, int Hidden, bool Fused>
struct ForwardBlock {
  using Element = typename A::Element;
  static constexpr ForwardLayout kLayout = forward_layout(A::kPrecision, Hidden);
  static constexpr int kPairs = kLayout.pairs;
  static constexpr int kFragments = 2 * kPairs;
  static constexpr int kAllFragments = forward_fragments(Hidden);
  static constexpr int kStateStride = row_bytes(kLayout.recurrent.chunks);
  static constexpr int kStateBytes = kTileRows * kStateStride;  // of one step
  static constexpr int kResidentInput = Fused ? kLayout.resident_input : 0;

  // Without matrix instructions sums take many registers: a pair at a time.
  static constexpr int kGroup = A::kMatrixUnits ? kFragments : 2;
  static constexpr int kGroups = kFragments / kGroup;
  static constexpr int kInputAhead = A::kMatrixUnits ? 1 : 0;  // steps

  // With few fragments in flight, two sums for each shorten the wait for the last product.
  using Sums = Accumulator<A, kGroup, A::kMatrixUnits && kPairs == 1 ? 2 : 1>;
  static constexpr int kMostInRow = Hidden > kMaxFusedInput ? Hidden : kMaxFusedInput;
  using Copier = RowCopier<kLayout.threads, kMostInRow* int{sizeof(Element)}>;
  using RecurrentWeights = Weights<A, kFragments, kLayout.recurrent.resident>;
  using InputWeights = Weights<A, kFragments, kResidentInput>;

  const ForwardArguments& arguments;
  Lane lane;
  int direction, tile;
  int first_fragment;
  int input_stride;
  uint4 *shared_recurrent, *shared_input;
  char *states, *inputs;
  RecurrentWeights recurrent;
  InputWeights input;
  OwnSequences own;
  Copier copier;

  FASTRNN_DEVICE explicit ForwardBlock(const ForwardArguments& args, int stages)
      : arguments(args),
        lane(Lane::of(gpu::thread_index())),
        direction(gpu::block_y()),
        tile(gpu::block_x()),
        first_fragment(lane.warp * kFragments),
        input_stride(row_bytes(args.input_chunks)),
        own(OwnSequences::of(tile, lane, args.sizes, args.sorted)),
        copier(Copier::of(tile, args.sizes, args.sorted)) {
    const OperandLayout input_layout{args.input_chunks, kResidentInput};
    constexpr int kChunkWords = kAllFragments * kFragmentBytes / 16;
    shared_recurrent = reinterpret_cast<uint4*>(gpu::shared_memory());
    shared_input = shared_recurrent + kLayout.recurrent.in_shared() * kChunkWords;
    states = reinterpret_cast<char*>(shared_input +
                                     (Fused ? input_layout.in_shared() : 0) * kChunkWords);
    inputs = states + stages * kStateBytes;
    // Zeros past the last unit and feature: what is there is multiplied by zero weights.
    fill_zero(states, stages * kStateBytes, kLayout.threads);
    if constexpr (Fused)
      fill_zero(inputs, kInputStages * kTileRows * input_stride, kLayout.threads);
    load_weights(input_layout);
    gpu::barrier();
  }

  FASTRNN_DEVICE void load_weights(const OperandLayout& input_layout) {
    constexpr int kChunkWords = kAllFragments * kFragmentBytes / 16;
    constexpr int kRecurrent = kLayout.recurrent.chunks;
    const int input_chunks = Fused ? input_layout.chunks : 0;
    const uint4* packed =
        static_cast<const uint4*>(arguments.weights) +
        static_cast<int64_t>(direction) * (input_chunks + kRecurrent) * kChunkWords;
    if constexpr (Fused) {
      input.load(packed, input_chunks, kAllFragments, first_fragment, lane);
      copy_words(shared_input, packed + kResidentInput * kChunkWords,
                 input_layout.in_shared() * kChunkWords * 16, kLayout.threads);
      packed += input_chunks * kChunkWords;
    }
    recurrent.load(packed, kRecurrent, kAllFragments, first_fragment, lane);
    copy_words(shared_recurrent, packed + kLayout.recurrent.resident * kChunkWords,
               kLayout.recurrent.in_shared() * kChunkWords * 16, kLayout.threads);
  }

  FASTRNN_DEVICE int unit(int pair) const { return unit_of(first_fragment + 2 * pair, lane.group); }
  FASTRNN_DEVICE bool has_unit(int pair) const { return unit(pair) < arguments.sizes.hidden_size; }
  FASTRNN_DEVICE char* state_stage(int stage) const { return states + stage * kStateBytes; }
  FASTRNN_DEVICE char* input_stage(int stage) const {
    return inputs + stage * kTileRows * input_stride;
  }

  // Of an initial state.
  FASTRNN_DEVICE float initial(const void* from, int pair, int r) const {
    if (!from || !own.exists(r) || !has_unit(pair)) return 0.0f;
    const int64_t at = own.state(r, direction, arguments.sizes) + unit(pair);
    return A::to_float(static_cast<const Element*>(from)[at]);
  }

  // Bias of the gates in the places of the sums.
  FASTRNN_DEVICE void load_bias(float (&bias)[kFragments][4]) const {
    const Element* from = static_cast<const Element*>(arguments.bias);
    const int hidden_size = arguments.sizes.hidden_size;
#pragma unroll
    for (int n = 0; n < kFragments; ++n)
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        const int gate = gate_of(n, upper), at = unit(n / 2);
        const bool there = from && at < hidden_size;
        const float value =
            there ? A::to_float(from[(direction * 4 + gate) * hidden_size + at]) : 0.0f;
        bias[n][2 * upper] = bias[n][2 * upper + 1] = value;  // of both sequences
      }
  }

  using RawShare = RawGates<Element>[kPairs][2];

  // Of a step, whose units lie at `offsets`.
  FASTRNN_DEVICE void fetch_share(RawShare& raw, int step, const Offsets& offsets) const {
    const Element* from = static_cast<const Element*>(arguments.share);
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair)
        if (own.valid(r, step) && has_unit(pair))
          raw[pair][r] = load_gates(from + 4 * (offsets.at[r] + unit(pair)));
  }

  // Some steps ahead of `fetch_share`, which then waits for the L2 cache at most.
  FASTRNN_DEVICE void prefetch_share(int step, const Offsets& offsets) const {
    const Element* from = static_cast<const Element*>(arguments.share);
#pragma unroll
    for (int r = 0; r < 2; ++r)
      if (own.valid(r, step) && has_unit(0)) gpu::prefetch(from + 4 * (offsets.at[r] + unit(0)));
  }

  FASTRNN_DEVICE static void unpack_share(float (&sums)[kFragments][4], const RawShare& raw) {
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const Gates gates = gates_from_raw<A>(raw[pair][r]);
        sums[2 * pair][r] = gates.i;
        sums[2 * pair][2 + r] = gates.f;
        sums[2 * pair + 1][r] = gates.g;
        sums[2 * pair + 1][2 + r] = gates.o;
      }
  }

  // Row of x of the copier's sequence.
  FASTRNN_DEVICE const char* input_row(int step) const {
    const Sizes& sizes = arguments.sizes;
    return static_cast<const char*>(arguments.x) + copier.sequence.row_of(step, direction, sizes) *
                                                       sizes.input_size *
                                                       static_cast<int>(sizeof(Element));
  }

  // Starts the copy of a step's input, which lies at `row`; zeros in its place if not `valid`.
  FASTRNN_DEVICE void copy_input(const char* row, bool valid, int stage) const {
    const int bytes = arguments.sizes.input_size * static_cast<int>(sizeof(Element));
    const char* const from = valid ? row : static_cast<const char*>(arguments.x);
    if (arguments.input_width == 16)
      copier.template copy<16>(input_stage(stage), input_stride, from, bytes, valid);
    else
      copier.template copy<4>(input_stage(stage), input_stride, from, bytes, valid);
  }

  FASTRNN_DEVICE void add_input(Sums& sums, int group, int stage) const {
    const Rows rows{input_stage(stage), input_stride};
    const int chunks = arguments.input_chunks, first = group * kGroup;
    input.add_resident(sums, first, rows, chunks, lane, true);
    input.add_shared(sums, shared_input, kAllFragments, first_fragment + first, rows, chunks, lane,
                     true);
  }

  // `rounds`: the states were copied as they were.
  FASTRNN_DEVICE void add_state(Sums& sums, int group, int stage, bool rounds) const {
    const Rows rows{state_stage(stage), kStateStride};
    constexpr int kChunks = kLayout.recurrent.chunks;
    const int first = group * kGroup;
    recurrent.add_resident(sums, first, rows, kChunks, lane, rounds);
    recurrent.add_shared(sums, shared_recurrent, kAllFragments, first_fragment + first, rows,
                         kChunks, lane, rounds);
  }
};

template <class A, int Hidden, bool Fused>
struct ForwardPass : ForwardBlock<A, Hidden, Fused> {
  using Base = ForwardBlock<A, Hidden, Fused>;
  using Element = typename A::Element;
  using Sums = typename Base::Sums;
  static constexpr int kPairs = Base::kPairs;
  static constexpr int kGroup = Base::kGroup;
  static constexpr bool kAhead = Fused && Base::kInputAhead;
  static constexpr int kCopied = kInputStages - 1 + Base::kInputAhead;  // when a step begins
  static constexpr bool kStoresLate = kPairs == 1;    // with two there are no registers for it,
  static constexpr bool kStepsOffsets = kPairs == 1;  // nor for where it goes

  float c[kPairs][2];    // after the last step
  Element h[kPairs][2];  // as it goes to y
  Offsets place;         // of the step whose results are stored next
  // What the sums start with: the bias, or the input's share that was made beforehand.
  float start[Base::kFragments][4];
  typename Base::RawShare share{};
  Sums next;  // the next step's sums, with its input in them
  const char* next_input;

  FASTRNN_DEVICE explicit ForwardPass(const ForwardArguments& arguments)
      : Base(arguments, state_stages(false)),
        place(Offsets::of(this->own, 0, this->direction, arguments.sizes)) {}

  FASTRNN_DEVICE void begin() {
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        c[pair][r] = this->initial(this->arguments.c_0, pair, r);
        const float h_0 = this->initial(this->arguments.h_0, pair, r);
        h[pair][r] = A::from_float(h_0);
        store_state(0, pair, r, h_0);
        if (this->own.exists(r) && this->own.sequences[r].length == 0) store_h_n(pair, r);
      }
    if constexpr (Fused) {
      begin_input();
    } else {
      this->fetch_share(share, 0, place);
    }
    gpu::barrier();
  }

  FASTRNN_DEVICE void begin_input() {
    next_input = this->input_row(0);
    this->load_bias(start);
    for (int step = 0; step < kCopied; ++step) copy_next_input(step);
    gpu::wait_copies<kInputStages - 2>();
    gpu::barrier();
    if constexpr (kAhead) add_next_input(-1);
  }

  // A group for each step, also for those that are no more, so that groups can be counted.
  FASTRNN_DEVICE void copy_next_input(int step) {
    const char* const row = kStepsOffsets ? next_input : this->input_row(step);
    this->copy_input(row, step < this->copier.sequence.length, step % kInputStages);
    gpu::commit_copies();
    if constexpr (kStepsOffsets)
      next_input += this->arguments.sizes.inputs_per_step[this->direction] * int{sizeof(Element)};
  }

  FASTRNN_DEVICE void store_state(int stage, int pair, int r, float value) const {
    char* const row = this->state_stage(stage) + (2 * this->lane.member + r) * Base::kStateStride;
    reinterpret_cast<Element*>(row)[this->unit(pair)] = A::operand(value);
  }

  FASTRNN_DEVICE void run_step(int step) {
    fetch_ahead(step);
    float z[Base::kFragments][4];
    if constexpr (kStoresLate && !A::kMatrixUnits) store(step - 1);
#pragma unroll
    for (int group = 0; group < Base::kGroups; ++group) {
      Sums sums;
      if constexpr (kAhead) {
        sums = next;
      } else {
        sums.start(start + group * kGroup);
        if constexpr (Fused) this->add_input(sums, group, step % kInputStages);
      }
      this->add_state(sums, group, step % 2, false);
      if constexpr (kAhead && kPairs == 1) add_next_input(step);
      if constexpr (kStoresLate && A::kMatrixUnits) store(step - 1);
      sums.finish(z + group * kGroup, this->lane);
    }
    activate(z, step);
    if constexpr (!kStoresLate) store(step);
    if constexpr (kAhead && kPairs > 1) add_next_input(step);   // now there are registers for it
    if constexpr (Fused) gpu::wait_copies<kInputStages - 2>();  // what the next step multiplies
    gpu::barrier();
  }

  FASTRNN_DEVICE void add_next_input(int step) {
    next.start(start);
    this->add_input(next, 0, (step + 1) % kInputStages);
  }

  // What later steps need comes in.
  FASTRNN_DEVICE void fetch_ahead(int step) {
    if constexpr (Fused) {
      copy_next_input(step + kCopied);  // its place was read in the step before this one
    } else {
      Base::unpack_share(start, share);
      Offsets ahead = kStepsOffsets
                          ? place
                          : Offsets::of(this->own, step, this->direction, this->arguments.sizes);
      ahead.move(kStoresLate && step > 0 ? 2 : 1);
      this->fetch_share(share, step + 1, ahead);
      ahead.move(kInputStages - 1);
      this->prefetch_share(step + kInputStages, ahead);
    }
  }

  FASTRNN_DEVICE void store_h_n(int pair, int r) const {
    if (!this->has_unit(pair)) return;
    const int64_t at = this->own.state(r, this->direction, this->arguments.sizes);
    static_cast<Element*>(this->arguments.h_n)[at + this->unit(pair)] = h[pair][r];
  }

  // Writes what a step has given; before the first one there is nothing.
  FASTRNN_DEVICE void store(int step) {
    if (step < 0) return;
    const ForwardArguments& arguments = this->arguments;
    Element* const y = static_cast<Element*>(arguments.y);
    if constexpr (!kStepsOffsets)
      place = Offsets::of(this->own, step, this->direction, arguments.sizes);
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair)
        if (this->own.valid(r, step) && this->has_unit(pair)) {
          const int64_t at = place.at[r] + this->unit(pair);
          if (y) y[at] = h[pair][r];
          if (arguments.cells) arguments.cells[at] = c[pair][r];
          if (step == this->own.sequences[r].length - 1) store_h_n(pair, r);
        }
    if constexpr (kStepsOffsets) place.move(1);
  }

  // Past its end a sequence keeps its state; what it computes goes nowhere.
  FASTRNN_DEVICE void activate(const float (&z)[Base::kFragments][4], int step) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const bool valid = this->own.valid(r, step);
      // Without a branch the two sequences' activations overlap, which takes registers.
      if (kPairs > 1 && !valid) continue;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const auto cell =
            cell_forward<typename A::Math>(z[2 * pair][r], z[2 * pair][2 + r], z[2 * pair + 1][r],
                                           z[2 * pair + 1][2 + r], c[pair][r]);
        store_state((step + 1) % 2, pair, r, cell.h);
        c[pair][r] = valid ? cell.c : c[pair][r];
        h[pair][r] = valid ? A::from_float(cell.h) : h[pair][r];
      }
    }
  }

  FASTRNN_DEVICE void end(int steps) {
    if constexpr (Fused) gpu::wait_copies<0>();  // of steps that are no more
    if constexpr (kStoresLate) store(steps - 1);
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair)
        if (this->own.exists(r) && this->has_unit(pair)) {
          const int64_t at =
              this->own.state(r, this->direction, this->arguments.sizes) + this->unit(pair);
          static_cast<Element*>(this->arguments.c_n)[at] = A::from_float(c[pair][r]);
        }
  }
};

template <class A, int Hidden, bool Fused>
FASTRNN_KERNEL(forward_layout(A::kPrecision, Hidden).threads)
lstm_forward(const ForwardArguments arguments) {
  ForwardPass<A, Hidden, Fused> pass(arguments);
  const int steps = steps_of_tile(pass.tile, arguments.sizes, arguments.sorted);
  pass.begin();
  for (int step = 0; step < steps; ++step) pass.run_step(step);
  pass.end(steps);
}

}  // namespace fastrnn::cuda
