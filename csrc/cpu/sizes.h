// Checking a call's sizes, so that the core may multiply them without looking again.
#pragma once

#include <cstdint>

#include "../lstm.h"

namespace fastrnn {

// More threads than any machine has cores.
constexpr int64_t kMaxThreads = 65536;

// Proves that the size in bytes of every array of the call and of its workspace, and the number of
// its multiplications, stay below 2^60.
//
// Throws std::invalid_argument for a size that a call cannot have, and an exception derived from
// std::bad_alloc, which says what is too large, for sizes that no memory could hold.
void check_sizes(const LstmShape& shape, int64_t num_threads, int64_t element_size);

}  // namespace fastrnn
