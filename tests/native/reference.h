// The layer and its gradients once more, straight from the equations.
#pragma once

#include "problem.h"

namespace fastrnn::native_tests {

// Computed in the precision W, for float or double inputs.
template <class W, class T>
Results<W> reference(const Case& c, const Inputs<T>& in);

}  // namespace fastrnn::native_tests
