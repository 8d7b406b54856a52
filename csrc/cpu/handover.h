// How long it takes until two cores have seen what the other one has written.
#pragma once

namespace fastrnn {

// Nanoseconds of a question and its answer from one thread to another and back: some 60 where cores
// share a cache, some 400 across a large chip or in a virtual machine. Measured when it is first
// asked for, in half a millisecond; as good as infinite as long as no second thread answers.
double handover_ns();

// What it takes where cores share a cache.
constexpr double kShortHandoverNs = 60;

// Takes the place of what is measured, until it is set to a negative number; for tests.
void set_handover_ns(double ns);

}  // namespace fastrnn
