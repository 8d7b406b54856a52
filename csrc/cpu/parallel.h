// Running a function on several threads, in the pool that the process already has.
#pragma once

#include <cstdint>
#include <functional>

namespace fastrnn {

// Calls `body(i)` for every i in [0, count), each on a thread of its own, and waits for all.
//
// The threads are those of the OpenMP runtime already loaded into the process (torch brings one): a
// second pool would compete with it for the cores. Without one, and in a child made by fork, whose
// pool did not survive, plain threads are started instead, or fewer where the system has no more.
// (GCC's OpenMP runtime ends the process where it cannot start its threads; so it does under
// torch.) The first exception that `body` throws is thrown again here, when all threads have ended;
// indices not yet begun are then left out.
void parallel_run(int64_t count, const std::function<void(int64_t)>& body);

}  // namespace fastrnn
