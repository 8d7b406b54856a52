// Vectors of FASTRNN_VECTOR_BYTES bytes and the activations on them, for one instruction set.
//
// Only the compilers' vector extensions are used, so the same source serves every instruction set;
// two functions have a shorter form where there are instructions for them.
// Everything lives in an unnamed namespace: copies made for different sets must not be merged.
#pragma once

#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "../cell.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class T>
struct VectorTypes;

template <>
struct VectorTypes<float> {
  typedef float Vec __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
  typedef int32_t Int __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
};

template <>
struct VectorTypes<double> {
  typedef double Vec __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
  typedef int64_t Int __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
};

template <class T>
using Vec = typename VectorTypes<T>::Vec;

template <class T>
constexpr int kWidth = FASTRNN_VECTOR_BYTES / sizeof(T);

template <class T>
FASTRNN_INLINE Vec<T> load(const T* from) {
  Vec<T> v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
FASTRNN_INLINE void store(T* to, Vec<T> v) {
  __builtin_memcpy(to, &v, sizeof v);
}

// The first `count` elements; the rest of the vector is zero.
template <class T>
FASTRNN_INLINE Vec<T> load_first(const T* from, int64_t count) {
  if (count >= kWidth<T>) return load(from);
  T padded[kWidth<T>] = {};
  for (int64_t i = 0; i < count; ++i) padded[i] = from[i];
  return load(padded);
}

template <class T>
FASTRNN_INLINE void store_first(T* to, Vec<T> v, int64_t count) {
  if (count >= kWidth<T>) return store(to, v);
  T padded[kWidth<T>];
  store(padded, v);
  for (int64_t i = 0; i < count; ++i) to[i] = padded[i];
}

// Constants of e^r - 1 = r + r^2 q(r) on |r| <= ln(2)/2, and of the reduction x = n ln(2) + r.
// The coefficients of q are Chebyshev fits: error 8e-9 (float) and 1.3e-17 (double).
template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr int coefficients = 5;
  static constexpr float q[coefficients] = {0.5f, 0.166665768459939763f, 0.0416665544376859389f,
                                            0.00836320297157585495f, 0.0013926213466332443f};
  static constexpr float log2_e = 1.44269504088896341f;
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  // x - n ln(2) is rounded once. The nearest float is off by 2e-9, which n times is an ulp at most.
  static constexpr float ln2_high = 0.693147180559945309f;
  static constexpr float ln2_low = 0;
#else
  static constexpr float ln2_high = 0.693359375f;  // few bits, so n * ln2_high is exact
  static constexpr float ln2_low = -2.12194440054690583e-4f;
#endif
  // 1.5 * 2^23: adding it rounds to an integer. And 127, an exponent's bias.
  static constexpr float round_magic = 12583039.0f;
  static constexpr int mantissa_bits = 23;
  static constexpr float sigmoid_limit = 40.0f;  // sigmoid(-40) = 4e-18; a product of two of
  static constexpr float tanh_limit = 9.5f;      // (1 + e^x) must stay finite
};

template <>
struct ExpConstants<double> {
  static constexpr int coefficients = 10;
  static constexpr double q[coefficients] = {0.500000000000000103,   0.166666666666666675,
                                             0.0416666666666239915,  0.00833333333333005135,
                                             0.00138888889172817933, 0.000198412698631059687,
                                             2.48015211902177277e-5, 2.75572683786841929e-6,
                                             2.76201387197339956e-7, 2.51004241570050668e-8};
  static constexpr double log2_e = 1.44269504088896340736;
  static constexpr double ln2_high = 6.93145751953125e-1;
  static constexpr double ln2_low = 1.42860682030941723212e-6;
  static constexpr double round_magic = 6755399441056767.0;  // 1.5 * 2^52 + 1023
  static constexpr int mantissa_bits = 52;
  static constexpr double sigmoid_limit = 350.0;
  static constexpr double tanh_limit = 20.0;
};

// A power of two and a rest: e^x = power * e^r.
template <class T>
struct Exponent {
  Vec<T> power, r;
};

template <class T>
struct VectorMath {
  using Scalar = T;
  using V = Vec<T>;
  using Int = typename VectorTypes<T>::Int;
  using C = ExpConstants<T>;

#if defined(__AVX512F__)
  static constexpr bool has_instructions = sizeof(T) == sizeof(float);
  // All elements. GCC 12 warns of an undefined vector in the functions that take no mask.
  static constexpr unsigned short all = 0xffff;
#else
  static constexpr bool has_instructions = false;
#endif

  // Written so that a NaN passes through: the instructions, too, give the second operand then.
  static FASTRNN_INLINE V clamp(V x, T limit) {
#if defined(__AVX512F__)
    if constexpr (has_instructions)
      return _mm512_maskz_max_ps(all, _mm512_set1_ps(-limit),
                                 _mm512_maskz_min_ps(all, _mm512_set1_ps(limit), x));
#endif
    x = x > limit ? V{} + limit : x;
    return x < -limit ? V{} - limit : x;
  }

  // An estimate of 14 bits and one Newton step take less time than a division; rounded like one,
  // or one ulp beside.
  static FASTRNN_INLINE V reciprocal(V d) {
#if defined(__AVX512F__)
    if constexpr (has_instructions) {
      const V estimate = _mm512_maskz_rcp14_ps(all, d);
      return estimate + estimate * (T(1) - d * estimate);
    }
#endif
    return T(1) / d;
  }

  // |x| must leave the power a normal number.
  static FASTRNN_INLINE Exponent<T> reduce(V x) {
    const V shifted = x * C::log2_e + C::round_magic;
    const V n = shifted - C::round_magic;
    V r = x - n * C::ln2_high;
    if constexpr (C::ln2_low != 0) r = r - n * C::ln2_low;
    return {(V)((Int)shifted << C::mantissa_bits), r};
  }

  static FASTRNN_INLINE V polynomial(V r) {
    V q = V{} + C::q[C::coefficients - 1];
#pragma GCC unroll 16
    for (int k = C::coefficients - 2; k >= 0; --k) q = q * r + C::q[k];
    return q;
  }

  // e^x - 1 to about 2 ulp, also near zero.
  static FASTRNN_INLINE V expm1(V x) {
    const auto [power, r] = reduce(x);
    const V p = r + r * r * polynomial(r);
    return power * p + (power - T(1));
  }

  // 1 + e^-x for a sigmoid's denominator.
  static FASTRNN_INLINE V sigmoid_denominator(V x) {
    const auto [power, r] = reduce(-clamp(x, C::sigmoid_limit));
    return power * ((polynomial(r) * r + T(1)) * r + T(1)) + T(1);
  }

  static FASTRNN_INLINE void sigmoid_pair(V x0, V x1, V& s0, V& s1) {
    const V d0 = sigmoid_denominator(x0);
    const V d1 = sigmoid_denominator(x1);
    if constexpr (has_instructions) {
      s0 = reciprocal(d0);
      s1 = reciprocal(d1);
    } else {  // one division, the slowest instruction here, for both
      const V inverse = reciprocal(d0 * d1);
      s0 = inverse * d1;
      s1 = inverse * d0;
    }
  }

  // tanh(x) = (e^2x - 1) / (e^2x + 1)
  static FASTRNN_INLINE void sigmoid_and_tanh(V x_sigmoid, V x_tanh, V& s, V& t) {
    const V d_s = sigmoid_denominator(x_sigmoid);
    const V m = expm1(T(2) * clamp(x_tanh, C::tanh_limit));
    const V d_t = m + T(2);
    if constexpr (has_instructions) {
      s = reciprocal(d_s);
      t = m * reciprocal(d_t);
    } else {
      const V inverse = reciprocal(d_s * d_t);
      s = inverse * d_t;
      t = inverse * d_s * m;
    }
  }

  static FASTRNN_INLINE V tanh(V x) {
    const V m = expm1(T(2) * clamp(x, C::tanh_limit));
    const V d = m + T(2);
    if constexpr (has_instructions) return m * reciprocal(d);
    return m / d;
  }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
