// How long it takes until one core sees what another one has written.
#pragma once

namespace fastrnn {

// Nanoseconds in which two threads answer each other once: some 60 where cores share a cache, some
// 400 across a large chip or in a virtual machine. Measured when it is first asked for, in half a
// millisecond; as good as infinite where no second thread answers within a few.
double handover_ns();

// Takes the place of what is measured, until it is set to a negative number; for tests.
void set_handover_ns(double ns);

}  // namespace fastrnn
