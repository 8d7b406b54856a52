// Compiled once for each precision and padded number of hidden units: see CMakeLists.txt.
#include "backward.h"
#include "forward.h"
#include "gates.h"
#include "kernels.h"

#if !defined(FASTRNN_PRECISION) || !defined(FASTRNN_HIDDEN)
#error "FASTRNN_PRECISION and FASTRNN_HIDDEN say what to instantiate"
#endif

namespace fastrnn::cuda {

template <>
KernelSet kernel_set<Precision::FASTRNN_PRECISION, FASTRNN_HIDDEN>() {
  using A = Arithmetic<Precision::FASTRNN_PRECISION>;
  return {
      lstm_forward<A, FASTRNN_HIDDEN, false>, lstm_forward<A, FASTRNN_HIDDEN, true>,
      lstm_gates<A, FASTRNN_HIDDEN, false>,   lstm_gates<A, FASTRNN_HIDDEN, true>,
      lstm_backward<A, FASTRNN_HIDDEN>,
  };
}

}  // namespace fastrnn::cuda
