// What each instruction set's build of kernels.cpp offers.
#pragma once

#include "layout.h"

namespace fastrnn {

template <class T>
struct Kernels {
  int64_t width;  // elements of a vector
  // Packs the weights of one direction for `forward_rows` or `backward_rows`.
  void (*pack_forward)(const LstmForward<T>&, int64_t direction, T* packed);
  void (*pack_backward)(const LstmBackward<T>&, int64_t direction, T* packed);
  // Take the rows of one task through all of their steps.
  void (*forward_rows)(const LstmForward<T>&, const RowTask&, const T* packed, T* scratch);
  // Adds to `weight_gradient` ([I + H + 1][G * padded_H]) unless it is null.
  void (*backward_rows)(const LstmBackward<T>&, const RowTask&, const T* packed, T* scratch,
                        T* weight_gradient);
};

struct InstructionSet {
  const char* name;
  bool (*is_supported)();
  Kernels<float> float32;
  Kernels<double> float64;
};

}  // namespace fastrnn
