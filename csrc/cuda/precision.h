// The types that the kernels compute in: how elements are stored, and how they are multiplied.
#pragma once

#include "activations.h"
#include "config.h"
#include "device.h"

namespace fastrnn::cuda {

// `operand` is an element as a product takes it; `round_operand` does that to words that were
// copied as they were.
template <Precision precision>
struct Arithmetic;

template <>
struct Arithmetic<Precision::half> {
  static constexpr Precision kPrecision = Precision::half;
  static constexpr bool kMatrixUnits = true;
  using Element = uint16_t;
  using Math = FastMath;

  FASTRNN_DEVICE static float to_float(Element bits) { return gpu::float_from_half(bits); }
  FASTRNN_DEVICE static Element from_float(float x) { return gpu::half_from_float(x); }
  FASTRNN_DEVICE static Element operand(float x) { return from_float(x); }
  FASTRNN_DEVICE static uint32_t round_operand(uint32_t word) { return word; }
  FASTRNN_DEVICE static void multiply(float (&c)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
    gpu::mma_half(c, a, b0, b1);
  }
};

template <>
struct Arithmetic<Precision::bfloat16> {
  static constexpr Precision kPrecision = Precision::bfloat16;
  static constexpr bool kMatrixUnits = true;
  using Element = uint16_t;
  using Math = FastMath;

  FASTRNN_DEVICE static float to_float(Element bits) { return gpu::float_from_bfloat16(bits); }
  FASTRNN_DEVICE static Element from_float(float x) { return gpu::bfloat16_from_float(x); }
  FASTRNN_DEVICE static Element operand(float x) { return from_float(x); }
  FASTRNN_DEVICE static uint32_t round_operand(uint32_t word) { return word; }
  FASTRNN_DEVICE static void multiply(float (&c)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
    gpu::mma_bfloat16(c, a, b0, b1);
  }
};

template <>
struct Arithmetic<Precision::tf32> {
  static constexpr Precision kPrecision = Precision::tf32;
  static constexpr bool kMatrixUnits = true;
  using Element = float;
  using Math = AccurateMath;

  FASTRNN_DEVICE static float to_float(Element x) { return x; }
  FASTRNN_DEVICE static Element from_float(float x) { return x; }
  FASTRNN_DEVICE static Element operand(float x) {
    return gpu::float_from_bits(gpu::tf32_from_float(x));
  }
  FASTRNN_DEVICE static uint32_t round_operand(uint32_t word) {
    return gpu::tf32_from_float(gpu::float_from_bits(word));
  }
  FASTRNN_DEVICE static void multiply(float (&c)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
    gpu::mma_tf32(c, a, b0, b1);
  }
};

template <>
struct Arithmetic<Precision::exact> {
  static constexpr Precision kPrecision = Precision::exact;
  static constexpr bool kMatrixUnits = false;
  using Element = float;
  using Math = AccurateMath;

  FASTRNN_DEVICE static float to_float(Element x) { return x; }
  FASTRNN_DEVICE static Element from_float(float x) { return x; }
  FASTRNN_DEVICE static Element operand(float x) { return x; }
  FASTRNN_DEVICE static uint32_t round_operand(uint32_t word) { return word; }
};

// The four gates of one unit and sequence, side by side in memory.
struct Gates {
  float i, f, g, o;
};

// As they are in memory: fetched early, and converted where they are used.
template <class Element>
struct RawGates;

template <>
struct RawGates<uint16_t> {
  uint2 words{};
};

template <>
struct RawGates<float> {
  uint4 words{};
};

template <class A>
FASTRNN_DEVICE Gates gates_from_raw(const RawGates<typename A::Element>& raw) {
  if constexpr (sizeof(typename A::Element) == 2) {
    const auto low = [](uint32_t word) { return A::to_float(static_cast<uint16_t>(word)); };
    const auto high = [](uint32_t word) { return A::to_float(static_cast<uint16_t>(word >> 16)); };
    return {low(raw.words.x), high(raw.words.x), low(raw.words.y), high(raw.words.y)};
  } else {
    return {gpu::float_from_bits(raw.words.x), gpu::float_from_bits(raw.words.y),
            gpu::float_from_bits(raw.words.z), gpu::float_from_bits(raw.words.w)};
  }
}

template <class A>
FASTRNN_DEVICE RawGates<typename A::Element> raw_from_gates(const Gates& gates, bool as_operand) {
  const auto convert = [as_operand](float x) {
    return as_operand ? A::operand(x) : A::from_float(x);
  };
  const auto i = convert(gates.i), f = convert(gates.f), g = convert(gates.g), o = convert(gates.o);
  RawGates<typename A::Element> raw;
  if constexpr (sizeof(typename A::Element) == 2) {
    raw.words = {i | static_cast<uint32_t>(f) << 16, g | static_cast<uint32_t>(o) << 16};
  } else {
    raw.words = {gpu::bits_from_float(i), gpu::bits_from_float(f), gpu::bits_from_float(g),
                 gpu::bits_from_float(o)};
  }
  return raw;
}

// `gates` is aligned to four elements.
template <class Element>
FASTRNN_DEVICE RawGates<Element> load_gates(const Element* gates) {
  return *reinterpret_cast<const RawGates<Element>*>(gates);
}

template <class Element>
FASTRNN_DEVICE void store_gates(Element* gates, const RawGates<Element>& raw) {
  *reinterpret_cast<RawGates<Element>*>(gates) = raw;
}

}  // namespace fastrnn::cuda
