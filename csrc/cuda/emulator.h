// The GPU of device.h, emulated: kernels run on a CPU, lane by lane.
//
// Every thread of a block is a fiber that runs until it needs others: at an instruction of its warp
// or at barrier(). What a GPU may do in any order or at any time is done in an unfavorable one, so
// that a kernel that relies on luck fails here: warps run one after the other from barrier to
// barrier, shared memory starts as NaN and ends at a page that faults, copies come as late as they
// may, and approximations are as inexact as they may be. Misuse is a std::logic_error.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#define FASTRNN_DEVICE inline
#define FASTRNN_KERNEL(threads) void

// nvcc has these built in.
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

struct alignas(8) uint2 {
  uint32_t x, y;
};

namespace fastrnn::gpu {

namespace emulator {

struct Grid {
  unsigned x, y, z;
};

// The order in which warps run between two barriers, and the lanes of a warp between two of its
// instructions. `shuffled` draws another one after each barrier, the same ones in each launch.
enum class Schedule { ascending, descending, shuffled };

// For launches from now on, on all threads of the host.
void set_schedule(Schedule schedule);

// Leaves blocks before this one out, along the grid's first dimension: for a look at the last ones
// of a grid that is too large to be run.
void set_first_block(unsigned x);

// Runs `kernel` in each thread of each block, one block after the other, on the calling thread of
// the host. Blocks have 1 to 1024 threads and `shared_bytes`, a multiple of 16, of shared memory.
// What a kernel throws comes out of here; the other threads of its block are unwound.
void run(Grid grid, int threads, int shared_bytes, const std::function<void()>& kernel);

[[noreturn]] void fail(const std::string& what);
// Shared memory takes `bytes` at this address, aligned to as many.
void check_shared(const void* pointer, int bytes, const char* what);

void copy_async(void* to, const void* from, int bytes, bool valid);
void wait_copies(int pending);

}  // namespace emulator

int thread_index();
int block_x();
int block_y();
int block_z();

char* shared_memory();

void barrier();
inline void fence_compiler() {}

// The destination is NaN until the copy is made, which is when the thread must wait for it.
template <int Bytes>
void copy_async(void* to, const void* from, bool valid) {
  static_assert(Bytes == 4 || Bytes == 16);
  emulator::copy_async(to, from, Bytes, valid);
}

void commit_copies();

template <int Pending>
void wait_copies() {
  static_assert(Pending >= 0);
  emulator::wait_copies(Pending);
}

// Reads a byte: memory that is asked for must be there.
inline void prefetch(const void* pointer) {
  static_cast<void>(*static_cast<const volatile char*>(pointer));
}

inline float float_from_bits(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t bits_from_float(float x) { return std::bit_cast<uint32_t>(x); }

namespace emulator {

constexpr uint32_t kSign = 0x80000000;
constexpr uint32_t kInfinity = 0x7F800000;

inline bool is_nan(uint32_t bits) { return (bits & ~kSign) > kInfinity; }

// Drops the lower `count` bits, which must be fewer than 32 and more than 0.
inline uint32_t round_to_even(uint32_t bits, int count) {
  const uint32_t odd = bits >> count & 1;
  return (bits + (1u << (count - 1)) - 1 + odd) >> count;
}

// Looks random, and gives each integer once (as MurmurHash3 ends).
inline uint32_t scramble(uint32_t x) {
  x += 0x9E3779B9;
  x = (x ^ x >> 16) * 0x85EBCA6B;
  x = (x ^ x >> 13) * 0xC2B2AE35;
  return x ^ x >> 16;
}

// `exact` with a relative error up to `bound`, rounding to float included, drawn from x.
inline float with_error(double exact, float x, double bound) {
  const double drawn = scramble(bits_from_float(x)) * 0x1p-31 - 1.0;  // in [-1, 1)
  return static_cast<float>(exact * (1.0 + drawn * (bound - 0x1p-24)));
}

inline float flush_subnormal(float x) {
  return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
}

}  // namespace emulator

// Assumed to reach 1 where float32 does; what is documented is the error only.
inline float tanh_approximate(float x) {
  if (std::fabs(x) > 9.02f) return std::copysign(1.0f, x);
  const float y = emulator::with_error(std::tanh(static_cast<double>(x)), x, 0x1p-11);
  return y > 1.0f ? 1.0f : y < -1.0f ? -1.0f : y;
}

// The .ftz kind: takes and gives zeros for subnormal numbers. 2^0 is exact.
inline float exp2_approximate(float x) {
  x = emulator::flush_subnormal(x);
  if (x == 0.0f) return 1.0f;
  const double exact = std::exp2(static_cast<double>(x));
  return emulator::flush_subnormal(emulator::with_error(exact, x, 0x1p-22));
}

inline float reciprocal_approximate(float x) {
  x = emulator::flush_subnormal(x);
  const double exact = 1.0 / static_cast<double>(x);
  return emulator::flush_subnormal(emulator::with_error(exact, x, 0x1p-22));
}

inline uint16_t half_from_float(float x) {
  const uint32_t bits = bits_from_float(x);
  if (emulator::is_nan(bits)) return 0x7FFF;
  const uint32_t sign = (bits & emulator::kSign) >> 16;
  const uint32_t magnitude = bits & ~emulator::kSign;
  const int exponent = static_cast<int>(magnitude >> 23);  // biased by 127, a half's by 15
  if (exponent >= 113) {
    const uint32_t rounded = emulator::round_to_even(magnitude - (112 << 23), 13);
    return static_cast<uint16_t>(sign | std::min(rounded, 0x7C00u));
  }
  // A multiple of 2^-24, the least half. What is below 2^-25 rounds to 0.
  if (exponent < 102) return static_cast<uint16_t>(sign);
  const uint32_t significand = (magnitude & 0x7FFFFF) | 0x800000;
  return static_cast<uint16_t>(sign | emulator::round_to_even(significand, 126 - exponent));
}

inline float float_from_half(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7FFFu;
  const uint32_t subnormal = bits_from_float(static_cast<float>(magnitude) * 0x1p-24f);
  const uint32_t normal = (magnitude << 13) + (112 << 23);
  const uint32_t special = (magnitude << 13) | emulator::kInfinity;
  return float_from_bits(sign | (magnitude < 0x0400   ? subnormal
                                 : magnitude < 0x7C00 ? normal
                                                      : special));
}

inline uint16_t bfloat16_from_float(float x) {
  const uint32_t bits = bits_from_float(x);
  if (emulator::is_nan(bits)) return 0x7FFF;
  return static_cast<uint16_t>(emulator::round_to_even(bits, 16));
}

inline float float_from_bfloat16(uint16_t bits) {
  return float_from_bits(static_cast<uint32_t>(bits) << 16);
}

inline uint32_t tf32_from_float(float x) {
  const uint32_t bits = bits_from_float(x);
  return (emulator::is_nan(bits) ? 0x7FFFFFFF : bits + 0x1000) & ~0x1FFFu;
}

namespace emulator {

constexpr int kWarpSize = 32;

// What a lane passes to an instruction of its warp, and gets from it.
struct Operands {
  const char* row = nullptr;
  uint32_t* words = nullptr;
  float* c = nullptr;
  const uint32_t* a = nullptr;
  uint32_t b[2] = {};
  float* value = nullptr;
  int mask = 0;
};

using Warp = std::array<Operands*, kWarpSize>;

struct Instruction {
  const char* name;
  void (*perform)(const Warp& warp);
};

// Waits for the other lanes of the warp to come to the same instruction.
void perform_together(const Instruction& instruction, Operands operands);

inline void load(const Warp& warp) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const char* row = warp[8 * matrix + lane / 4]->row;
      std::memcpy(&warp[lane]->words[matrix], row + 4 * (lane % 4), 4);
    }
  }
}

inline void shuffle(const Warp& warp) {
  std::array<float, kWarpSize> values;
  for (int lane = 0; lane < kWarpSize; ++lane) values[lane] = *warp[lane]->value;
  for (int lane = 0; lane < kWarpSize; ++lane) *warp[lane]->value = values[lane ^ warp[lane]->mask];
}

// Element `part` of a register.
inline float half_of(uint32_t word, int part) {
  return float_from_half(static_cast<uint16_t>(word >> 16 * part));
}
inline float bfloat16_of(uint32_t word, int part) {
  return float_from_bits(word >> 16 * part << 16);
}
inline float tf32_of(uint32_t word, int) { return float_from_bits(word & ~0x1FFFu); }

// Matrix fragments as in the PTX ISA manual: a register holds `Parts` elements side by side in K,
// which apart from that lie alike in m16n8k16 and in m16n8k8.
template <int Parts, float (&element_of)(uint32_t, int)>
void multiply(const Warp& warp) {
  constexpr int kDepth = 8 * Parts;
  float a[16][kDepth], b[kDepth][8], c[16][8];
  const auto row_of_a = [](int lane, int reg) { return (lane >> 2) + 8 * (reg % 2); };
  const auto k_of_a = [](int lane, int reg) { return Parts * (lane % 4 + 4 * (reg / 2)); };
  const auto k_of_b = [](int lane, int reg) { return Parts * (lane % 4 + 4 * reg); };
  const auto of_c = [&](int lane, int reg) -> float& {
    return c[(lane >> 2) + 8 * (reg / 2)][2 * (lane % 4) + reg % 2];
  };
  for (int lane = 0; lane < kWarpSize; ++lane) {
    for (int part = 0; part < Parts; ++part) {
      for (int reg = 0; reg < 4; ++reg) {
        a[row_of_a(lane, reg)][k_of_a(lane, reg) + part] = element_of(warp[lane]->a[reg], part);
      }
      for (int reg = 0; reg < 2; ++reg) {
        b[k_of_b(lane, reg) + part][lane >> 2] = element_of(warp[lane]->b[reg], part);
      }
    }
    for (int reg = 0; reg < 4; ++reg) of_c(lane, reg) = warp[lane]->c[reg];
  }
  for (int k = 0; k < kDepth; ++k) {
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) c[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    for (int reg = 0; reg < 4; ++reg) warp[lane]->c[reg] = of_c(lane, reg);
  }
}

inline constexpr Instruction kLoad{"waits in load_matrices", load};
inline constexpr Instruction kHalf{"waits in mma_half", multiply<2, half_of>};
inline constexpr Instruction kBfloat16{"waits in mma_bfloat16", multiply<2, bfloat16_of>};
inline constexpr Instruction kTf32{"waits in mma_tf32", multiply<1, tf32_of>};
inline constexpr Instruction kShuffle{"waits in shuffle_xor", shuffle};

}  // namespace emulator

inline void load_matrices(uint32_t (&words)[4], const void* row) {
  emulator::check_shared(row, 16, "row of load_matrices");
  emulator::perform_together(emulator::kLoad,
                             {.row = static_cast<const char*>(row), .words = words});
}

inline void mma_half(float (&c)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
  emulator::perform_together(emulator::kHalf, {.c = c, .a = a, .b = {b0, b1}});
}

inline void mma_bfloat16(float (&c)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
  emulator::perform_together(emulator::kBfloat16, {.c = c, .a = a, .b = {b0, b1}});
}

inline void mma_tf32(float (&c)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
  emulator::perform_together(emulator::kTf32, {.c = c, .a = a, .b = {b0, b1}});
}

inline float shuffle_xor(float value, int mask) {
  if (mask & ~31) emulator::fail("shuffle_xor: the mask is beyond the warp");
  emulator::perform_together(emulator::kShuffle, {.value = &value, .mask = mask});
  return value;
}

}  // namespace fastrnn::gpu
