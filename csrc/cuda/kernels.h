// The kernels that are compiled, one set for each precision and padded number of hidden units.
#pragma once

#include "arguments.h"
#include "config.h"

namespace fastrnn::cuda {

struct PackKernels {
  void (*forward)(PackArguments, int chunks, int fragments);
  void (*backward)(PackArguments, int chunks, int fragments);
};

struct KernelSet {
  void (*forward)(ForwardArguments);
  void (*forward_fused)(ForwardArguments);
  void (*gates)(ForwardArguments);
  void (*gates_fused)(ForwardArguments);
  void (*backward)(BackwardArguments);
};

template <Precision precision, int hidden>
KernelSet kernel_set();  // instances.cu

KernelSet find_kernels(Precision precision, int hidden);
PackKernels find_pack_kernels(Precision precision);

}  // namespace fastrnn::cuda
