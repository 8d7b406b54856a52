// Asking the system for large pages under large arrays.
#pragma once

#include <cstddef>

namespace fastrnn {

// A freshly allocated array of many megabytes is mapped page by page at its first use; with 4 KiB
// pages that takes longer than filling it. A hint only: nothing depends on its being followed.
void prefer_large_pages(void* array, std::size_t bytes);

}  // namespace fastrnn
