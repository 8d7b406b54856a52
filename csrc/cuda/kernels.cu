// The table of all kernels, and those that do not depend on the number of hidden units.
#include "kernels.h"

#include <stdexcept>

#include "pack.h"

namespace fastrnn::cuda {

template <Precision precision>
static PackKernels pack_kernels() {
  using A = Arithmetic<precision>;
  return {lstm_pack<A, false>, lstm_pack<A, true>};
}

PackKernels find_pack_kernels(Precision precision) {
  switch (precision) {
    case Precision::half: return pack_kernels<Precision::half>();
    case Precision::bfloat16: return pack_kernels<Precision::bfloat16>();
    case Precision::tf32: return pack_kernels<Precision::tf32>();
    case Precision::exact: return pack_kernels<Precision::exact>();
  }
  throw std::logic_error("there is no such precision");
}

template <Precision precision>
static KernelSet of_size(int hidden) {
  switch (hidden) {
    case 32: return kernel_set<precision, 32>();
    case 64: return kernel_set<precision, 64>();
    case 128: return kernel_set<precision, 128>();
  }
  throw std::logic_error("there is no kernel for this many hidden units");
}

KernelSet find_kernels(Precision precision, int hidden) {
  switch (precision) {
    case Precision::half: return of_size<Precision::half>(hidden);
    case Precision::bfloat16: return of_size<Precision::bfloat16>(hidden);
    case Precision::tf32: return of_size<Precision::tf32>(hidden);
    case Precision::exact: return of_size<Precision::exact>(hidden);
  }
  throw std::logic_error("there is no such precision");
}

}  // namespace fastrnn::cuda
