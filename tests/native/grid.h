// What main.cpp runs. Each function prints what is wrong and returns how many things are.
#pragma once

#include <string>

namespace fastrnn::native_tests {

// The kernels, forward and backward, against the reference: every instruction set that this CPU
// has, float and double, over the grid. A short run takes one case of many.
int check_grid(bool is_short);

// What lies beyond the grid: sizes that cannot be, exceptions on threads.
int check_limits();

// Does what the named sanitizer must notice, and returns if it does not: "address", "undefined" or
// "thread".
int plant(const std::string& kind);

}  // namespace fastrnn::native_tests
