// One LSTM layer on the CPU: plans the work, packs the weights, runs the kernels on all threads.
#pragma once

#include "isa.h"
#include "plan.h"

namespace fastrnn {

// Elements of T that `lstm_forward` and `lstm_backward` need as workspace, which they may
// overwrite.
template <class T>
int64_t forward_workspace(const InstructionSet& isa, const LstmShape& shape, const Plan& plan);
template <class T>
int64_t backward_workspace(const InstructionSet& isa, const LstmShape& shape, const Plan& plan,
                           bool wants_grad_x, bool wants_grad_weights);

template <class T>
void lstm_forward(const InstructionSet& isa, const LstmForward<T>& args, const Plan& plan,
                  T* workspace);
template <class T>
void lstm_backward(const InstructionSet& isa, const LstmBackward<T>& args, const Plan& plan,
                   T* workspace);

}  // namespace fastrnn
