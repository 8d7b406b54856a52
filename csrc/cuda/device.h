// What the kernels use of a GPU, in two implementations: its instructions, and an emulator that
// runs the same kernels on a CPU (emulator.h).
//
// Lane numbers, operands and results are as in NVIDIA's PTX ISA manual, "Matrix Fragments for
// mma.m16n8k8 / m16n8k16" and "ldmatrix". What says "warp" must be reached by all 32 lanes.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)

#define FASTRNN_DEVICE __device__ __forceinline__
// At most one block of a kernel needs to fit on a multiprocessor: it may use all registers.
#define FASTRNN_KERNEL(threads) __global__ void __launch_bounds__(threads, 1)

namespace fastrnn::gpu {

FASTRNN_DEVICE int thread_index() { return threadIdx.x; }
FASTRNN_DEVICE int block_x() { return blockIdx.x; }
FASTRNN_DEVICE int block_y() { return blockIdx.y; }
FASTRNN_DEVICE int block_z() { return blockIdx.z; }

// The block's dynamic shared memory, aligned to 16 bytes.
FASTRNN_DEVICE char* shared_memory() {
  extern __shared__ uint4 memory[];
  return reinterpret_cast<char*>(memory);
}

FASTRNN_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// All threads of the block have arrived, and see what the others wrote before.
FASTRNN_DEVICE void barrier() { __syncthreads(); }

// The compiler moves no loads and stores across this.
FASTRNN_DEVICE void fence_compiler() { asm volatile("" ::: "memory"); }

// Warp: four 8x8 matrices of 16-bit elements, one 32-bit word of each per lane. `row` is the
// shared address of the row lane % 8 of matrix lane / 8: 16 bytes, aligned to 16.
FASTRNN_DEVICE void load_matrices(uint32_t (&words)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared_address(row))
               : "memory");
}

// Warp: c += a b, with a [16, 16] and b [16, 8] in 16 bits, or a [16, 8] and b [8, 8] in TF32.
FASTRNN_DEVICE void mma_half(float (&c)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

FASTRNN_DEVICE void mma_bfloat16(float (&c)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

FASTRNN_DEVICE void mma_tf32(float (&c)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Warp: the value of the lane whose number differs by `mask`.
FASTRNN_DEVICE float shuffle_xor(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// Starts a copy of 4 or 16 bytes to shared memory; zeros in their place if not `valid`, and then
// nothing is read. Both addresses are multiples of Bytes.
template <int Bytes>
FASTRNN_DEVICE void copy_async(void* to, const void* from, bool valid) {
  static_assert(Bytes == 4 || Bytes == 16);
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from),
               "n"(Bytes), "r"(valid ? Bytes : 0)
               : "memory");
}

// Closes a group of copies that this thread has started.
FASTRNN_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most Pending of this thread's groups, the last ones, are under way.
template <int Pending>
FASTRNN_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// Asks for a line of memory to be brought into the L2 cache.
FASTRNN_DEVICE void prefetch(const void* pointer) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(pointer));
}

// Relative error up to 2^-11.
FASTRNN_DEVICE float tanh_approximate(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 2^x and 1 / x with relative errors up to 2^-22.
FASTRNN_DEVICE float exp2_approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

FASTRNN_DEVICE float reciprocal_approximate(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Conversions; to fewer bits they round to the nearest, to even where two are equally near (TF32,
// in the bits of a float: away from zero).
FASTRNN_DEVICE uint16_t half_from_float(float x) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

FASTRNN_DEVICE float float_from_half(uint16_t bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}

FASTRNN_DEVICE uint16_t bfloat16_from_float(float x) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

FASTRNN_DEVICE float float_from_bfloat16(uint16_t bits) {
  return __uint_as_float(static_cast<uint32_t>(bits) << 16);
}

FASTRNN_DEVICE uint32_t tf32_from_float(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

FASTRNN_DEVICE float float_from_bits(uint32_t bits) { return __uint_as_float(bits); }
FASTRNN_DEVICE uint32_t bits_from_float(float x) { return __float_as_uint(x); }

}  // namespace fastrnn::gpu

#else
#include "emulator.h"
#endif
