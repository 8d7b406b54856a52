// Compiled once for each instruction set, with FASTRNN_ISA (its name) and FASTRNN_VECTOR_BYTES set.
#include "kernels.h"

#include "backward.h"
#include "forward.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class T>
constexpr Kernels<T> kKernels = {kWidth<T>, pack_forward<T>, pack_backward<T>, forward_rows<T>,
                                 backward_rows<T>};

}  // namespace

extern const Kernels<float> kernels_float32;
extern const Kernels<double> kernels_float64;
const Kernels<float> kernels_float32 = kKernels<float>;
const Kernels<double> kernels_float64 = kKernels<double>;

}  // namespace fastrnn::FASTRNN_ISA
