// What each instruction set's build of kernels.cpp offers.
#pragma once

#include "layout.h"
#include "team.h"

namespace fastrnn {

template <class T>
struct Kernels {
  int64_t width;  // elements of a vector
  // Pack a share of one direction's weights for `forward_rows`, or for `backward_rows` with the
  // units in `parts`.
  void (*pack_forward)(const LstmForward<T>&, int64_t direction, const Share&, T* packed);
  void (*pack_backward)(const LstmBackward<T>&, int64_t direction, int64_t parts, const Share&,
                        T* packed);
  // Take the rows of one task through all of their steps. The members of a team call it with the
  // same scratch. Without packed weights (null) they are read in place, which serves calls of up to
  // kDirectSteps steps, over all rows, in a single task for each direction.
  void (*forward_rows)(const LstmForward<T>&, const RowTask&, Member&, const T* packed, T* scratch);
  // Adds to `weight_gradient` ([I + H + 1][G * padded_H]) unless it is null; without packed weights
  // the gradients are written in place.
  void (*backward_rows)(const LstmBackward<T>&, const RowTask&, Member&, const T* packed,
                        T* scratch, T* weight_gradient);
};

struct InstructionSet {
  const char* name;
  bool (*is_supported)();
  Kernels<float> float32;
  Kernels<double> float64;
};

}  // namespace fastrnn
