// The LSTM cell's element-wise arithmetic, forward and backward, written once for every backend.
//
// A `Math` policy supplies the activations for a value type `V` (a SIMD vector on the CPU, a scalar
// on a GPU). Everything has internal linkage: this header is compiled for several instruction sets,
// and the linker must never merge two of those copies.
#pragma once

#if defined(__CUDACC__)
#define FASTRNN_INLINE __device__ __forceinline__
#else
#define FASTRNN_INLINE inline __attribute__((always_inline))
#endif

namespace fastrnn {

// Activated gates, the new cell state and the output of one step.
template <class V>
struct CellStep {
  V i, f, g, o, c, h;
};

// i, f, o = sigmoid(z), g = tanh(z).
template <class Math, class V>
static FASTRNN_INLINE void cell_gates(V z_i, V z_f, V z_g, V z_o, V& i, V& f, V& g, V& o) {
  Math::sigmoid_and_tanh(z_i, z_g, i, g);
  Math::sigmoid_pair(z_f, z_o, f, o);
}

// The gates; c = f*c_prev + i*g; h = o*tanh(c).
template <class Math, class V>
static FASTRNN_INLINE CellStep<V> cell_forward(V z_i, V z_f, V z_g, V z_o, V c_prev) {
  CellStep<V> step;
  cell_gates<Math>(z_i, z_f, z_g, z_o, step.i, step.f, step.g, step.o);
  step.c = step.f * c_prev + step.i * step.g;
  step.h = step.o * Math::tanh(step.c);
  return step;
}

// The same with coupled gates, f = 1 - i.
template <class Math, class V>
static FASTRNN_INLINE CellStep<V> coupled_cell_forward(V z_i, V z_g, V z_o, V c_prev) {
  const typename Math::Scalar one = 1;
  CellStep<V> step;
  Math::sigmoid_pair(z_i, z_o, step.i, step.o);
  step.f = one - step.i;
  step.g = Math::tanh(z_g);
  step.c = step.f * c_prev + step.i * step.g;
  step.h = step.o * Math::tanh(step.c);
  return step;
}

// Gradients of the gates before activation, and of the previous cell state. With coupled gates that
// of i is z_i - z_f: f = 1 - i has the derivative -f'.
template <class V>
struct CellGradient {
  V z_i, z_f, z_g, z_o, c_prev;
};

// `step` needs i, f, g, o and c only. `dh` and `dc` are the gradients of h and c of this step.
template <class Math, class V>
static FASTRNN_INLINE CellGradient<V> cell_backward(const CellStep<V>& step, V c_prev, V dh, V dc) {
  const typename Math::Scalar one = 1;
  const V tanh_c = Math::tanh(step.c);
  const V dc_total = dc + dh * step.o * (one - tanh_c * tanh_c);
  CellGradient<V> grad;
  grad.z_o = dh * tanh_c * step.o * (one - step.o);
  grad.z_f = dc_total * c_prev * step.f * (one - step.f);
  grad.z_i = dc_total * step.g * step.i * (one - step.i);
  grad.z_g = dc_total * step.i * (one - step.g * step.g);
  grad.c_prev = dc_total * step.f;
  return grad;
}

}  // namespace fastrnn
