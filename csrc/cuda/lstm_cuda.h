// The CUDA core's interface: one launch each, on the caller's stream; see arguments.h for arrays.
//
// Nothing is allocated, nothing waits, and all of it can be captured in a CUDA graph.
#pragma once

#include "arguments.h"
#include "launch.h"
#include "plan.h"

namespace fastrnn::cuda {

// Weights into the kernels' order: for forward and gates, or transposed for backward.
void pack_forward(const Plan& plan, const void* w_ih, const void* w_hh, uint32_t* words,
                  Stream stream);
void pack_backward(const Plan& plan, const void* w_hh, uint32_t* words, Stream stream);

// All steps. Sizes, chunks and widths of the arguments are filled in here.
void forward(const Plan& plan, ForwardArguments arguments, Stream stream);
// The activated gates of all steps, from y.
void gates(const Plan& plan, ForwardArguments arguments, Stream stream);
// All steps backward.
void backward(const Plan& plan, BackwardArguments arguments, Stream stream);

}  // namespace fastrnn::cuda
