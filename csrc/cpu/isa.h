// The builds of kernels.cpp, best first, and the choice among them at run time.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace fastrnn {

const std::vector<InstructionSet>& instruction_sets();

// The named set, or the best one that this CPU has for an empty name. Throws std::invalid_argument
// for a name that is unknown or that this CPU cannot run.
const InstructionSet& select_instruction_set(const std::string& name);

template <class T>
const Kernels<T>& kernels_of(const InstructionSet& isa);

}  // namespace fastrnn
