// All steps of a tile of sequences in one direction, W_hh on chip.
//
// A thread owns one unit (or two) of two sequences: their four gates end up in its registers, where
// the cell state stays. Per step it reads all units' states from shared memory, and writes its own
// to the other of two buffers; one barrier separates the steps. The input of the next step is
// multiplied before that barrier, while others still compute; those of later steps are on the way.
// (Without matrix instructions nothing is left over to do it with: there it is multiplied in turn.)
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

  using Sums = Accumulator<A, kGroup, 1>;
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
  RowCopier copier;

  FASTRNN_DEVICE explicit ForwardBlock(const ForwardArguments& args, int stages)
      : arguments(args),
        lane(Lane::of(gpu::thread_index())),
        direction(gpu::block_y()),
        tile(gpu::block_x()),
        first_fragment(lane.warp * kFragments),
        input_stride(row_bytes(args.input_chunks)),
        own(OwnSequences::of(tile, lane, args.sizes, args.sorted)),
        copier(RowCopier::of(tile, kLayout.threads, args.sizes, args.sorted)) {
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
    if (!from || !own.exists[r] || !has_unit(pair)) return 0.0f;
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
      for (int reg = 0; reg < 4; ++reg) {
        const int gate = gate_of(n, reg / 2), at = unit(n / 2);
        const bool there = from && at < hidden_size;
        bias[n][reg] = there ? A::to_float(from[(direction * 4 + gate) * hidden_size + at]) : 0.0f;
      }
  }

  using RawShare = RawGates<Element>[kPairs][2];

  FASTRNN_DEVICE void fetch_share(RawShare& raw, int step) const {
    const Element* from = static_cast<const Element*>(arguments.share);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (!own.valid(r, step)) continue;
      const int64_t units = own.units(r, step, direction, arguments.sizes);
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair)
        if (has_unit(pair)) raw[pair][r] = load_gates(from + 4 * (units + unit(pair)));
    }
  }

  // Some steps ahead of `fetch_share`, which then waits for the L2 cache at most.
  FASTRNN_DEVICE void prefetch_share(int step) const {
    const Element* from = static_cast<const Element*>(arguments.share);
#pragma unroll
    for (int r = 0; r < 2; ++r)
      if (own.valid(r, step))
        gpu::prefetch(from + 4 * (own.units(r, step, direction, arguments.sizes) + unit(0)));
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

  // Starts the copy of a step's input; always a group of its own, so that groups can be counted.
  FASTRNN_DEVICE void copy_input(int step, int stage) const {
    const Sizes& sizes = arguments.sizes;
    const int bytes = sizes.input_size * static_cast<int>(sizeof(Element));
    const bool valid = step < copier.sequence.length;
    const char* from = static_cast<const char*>(arguments.x);
    if (valid) from += copier.sequence.row_of(step, direction, sizes) * bytes;
    copier.copy(input_stage(stage), input_stride, from, bytes, arguments.input_width, valid);
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
FASTRNN_KERNEL(forward_layout(A::kPrecision, Hidden).threads)
lstm_forward(const ForwardArguments arguments) {
  using Block = ForwardBlock<A, Hidden, Fused>;
  using Element = typename A::Element;
  constexpr int kPairs = Block::kPairs;
  const Sizes& sizes = arguments.sizes;
  Block block(arguments, state_stages(false));
  const OwnSequences& own = block.own;
  const int direction = block.direction;
  const int steps = steps_of_tile(block.tile, sizes, arguments.sorted);

  Element* const y = static_cast<Element*>(arguments.y);
  Element* const h_n = static_cast<Element*>(arguments.h_n);
  Element* const c_n = static_cast<Element*>(arguments.c_n);
  const auto store_state = [&](int stage, int pair, int r, float h) {
    char* const row = block.state_stage(stage) + (2 * block.lane.member + r) * Block::kStateStride;
    reinterpret_cast<Element*>(row)[block.unit(pair)] = A::operand(h);
  };

  float c[kPairs][2];
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      c[pair][r] = block.initial(arguments.c_0, pair, r);
      const float h = block.initial(arguments.h_0, pair, r);
      store_state(0, pair, r, h);
      if (own.exists[r] && own.sequences[r].length == 0 && block.has_unit(pair))
        h_n[own.state(r, direction, sizes) + block.unit(pair)] = A::from_float(h);
    }

  // What the sums start with: the bias, or the input's share that was made beforehand.
  float start[Block::kFragments][4] = {};
  typename Block::RawShare share{};
  typename Block::Sums next;
  constexpr int kCopied = kInputStages - 1 + Block::kInputAhead;  // steps, when a step begins
  if constexpr (Fused) {
    block.load_bias(start);
    for (int n = 0; n < kCopied; ++n) {
      block.copy_input(n, n);
      gpu::commit_copies();
    }
    gpu::wait_copies<kInputStages - 2>();
    gpu::barrier();
    if constexpr (Block::kInputAhead) {
      next.start(start);
      block.add_input(next, 0, 0);
    }
  } else {
    block.fetch_share(share, 0);
  }
  gpu::barrier();

  for (int step = 0; step < steps; ++step) {
    if constexpr (Fused) {
      // Its place was read in the step before this one.
      block.copy_input(step + kCopied, (step + kCopied) % kInputStages);
      gpu::commit_copies();
    } else {
      Block::unpack_share(start, share);
      block.fetch_share(share, step + 1);
      block.prefetch_share(step + kInputStages);
    }
    float z[Block::kFragments][4];
#pragma unroll
    for (int group = 0; group < Block::kGroups; ++group) {
      typename Block::Sums sums;
      if constexpr (Fused && Block::kInputAhead) {
        sums = next;
      } else {
        sums.start(start + group * Block::kGroup);
        if constexpr (Fused) block.add_input(sums, group, step % kInputStages);
      }
      block.add_state(sums, group, step % 2, false);
      if constexpr (Fused && Block::kInputAhead) {
        next.start(start);
        block.add_input(next, group, (step + 1) % kInputStages);
      }
      sums.finish(z + group * Block::kGroup, block.lane);
    }

#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (!own.valid(r, step)) continue;
      const int64_t units = own.units(r, step, direction, sizes);
      const bool last = step == own.sequences[r].length - 1;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const auto cell =
            cell_forward<typename A::Math>(z[2 * pair][r], z[2 * pair][2 + r], z[2 * pair + 1][r],
                                           z[2 * pair + 1][2 + r], c[pair][r]);
        c[pair][r] = cell.c;
        store_state((step + 1) % 2, pair, r, cell.h);
        if (!block.has_unit(pair)) continue;
        const Element h = A::from_float(cell.h);
        if (y) y[units + block.unit(pair)] = h;
        if (last) h_n[own.state(r, direction, sizes) + block.unit(pair)] = h;
        if (arguments.cells) arguments.cells[units + block.unit(pair)] = cell.c;
      }
    }
    if constexpr (Fused) gpu::wait_copies<kInputStages - 2>();  // what the next step multiplies
    gpu::barrier();
  }

#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair)
      if (own.exists[r] && block.has_unit(pair))
        c_n[own.state(r, direction, sizes) + block.unit(pair)] = A::from_float(c[pair][r]);
}

}  // namespace fastrnn::cuda
