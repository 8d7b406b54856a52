// The activations of cell.h on a GPU: fast ones for 16-bit types, accurate ones for float32.
#pragma once

#include "device.h"

namespace fastrnn::cuda {

// The hardware's tanh, relative error up to 2^-11: half a unit in the last place of float16. That
// it reaches 1, so that an open forget gate forgets nothing, is documented for infinity only.
struct FastMath {
  using Scalar = float;

  FASTRNN_DEVICE static float tanh(float x) { return gpu::tanh_approximate(x); }

  // sigmoid(x) = tanh(x / 2) / 2 + 1 / 2
  FASTRNN_DEVICE static float sigmoid(float x) { return 0.5f * tanh(0.5f * x) + 0.5f; }

  FASTRNN_DEVICE static void sigmoid_and_tanh(float x_sigmoid, float x_tanh, float& s, float& t) {
    s = sigmoid(x_sigmoid);
    t = tanh(x_tanh);
  }

  FASTRNN_DEVICE static void sigmoid_pair(float x0, float x1, float& s0, float& s1) {
    s0 = sigmoid(x0);
    s1 = sigmoid(x1);
  }
};

// Within 4 units in the last place or 1e-6; saturated gates are 1. NaN passes through.
struct AccurateMath {
  using Scalar = float;

  // sigmoid(x) = 1 / (1 + e^-x)
  FASTRNN_DEVICE static float sigmoid(float x) { return reciprocal(1.0f + exp(-x)); }

  // tanh(|x|) = 1 - 2 / (e^2|x| + 1) loses its digits near 0: there, an odd polynomial (a
  // Chebyshev fit on |x| <= 0.625, relative error 1e-8).
  FASTRNN_DEVICE static float tanh(float x) {
    const float z = x * x;
    float q = -5.8807447e-3f * z + 2.08065882e-2f;
    q = q * z - 5.37947677e-2f;
    q = q * z + 1.33321553e-1f;
    q = q * z - 3.33333105e-1f;
    const float small = x + x * z * q;
    const float magnitude = x < 0.0f ? -x : x;
    const float large = 1.0f - 2.0f * reciprocal(exp(2.0f * magnitude) + 1.0f);
    return magnitude < 0.625f ? small : x < 0.0f ? -large : large;
  }

  FASTRNN_DEVICE static void sigmoid_and_tanh(float x_sigmoid, float x_tanh, float& s, float& t) {
    s = sigmoid(x_sigmoid);
    t = tanh(x_tanh);
  }

  FASTRNN_DEVICE static void sigmoid_pair(float x0, float x1, float& s0, float& s1) {
    s0 = sigmoid(x0);
    s1 = sigmoid(x1);
  }

 private:
  // e^x, ending where its reciprocal is still a normal number. Written so that a NaN passes.
  FASTRNN_DEVICE static float exp(float x) {
    const float exponent = 1.44269504088896341f * x;
    return gpu::exp2_approximate(exponent > 126.0f ? 126.0f : exponent);
  }

  // A step of Newton's method after the hardware's: 1 / 1 must be 1, as errors add up over steps.
  FASTRNN_DEVICE static float reciprocal(float x) {
    const float guess = gpu::reciprocal_approximate(x);
    return guess + guess * (1.0f - x * guess);
  }
};

}  // namespace fastrnn::cuda
