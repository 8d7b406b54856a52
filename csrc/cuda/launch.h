// Launching a kernel: on a GPU, or on the emulator in builds that define FASTRNN_EMULATED.
#pragma once

#include <cstdint>
#include <string>

#if defined(FASTRNN_EMULATED)
#include "emulator.h"
#endif

namespace fastrnn::cuda {

struct Stream {
  int device;
  void* handle;  // a cudaStream_t of that device
};

struct Launch {
  std::string what;  // kernel and configuration, for errors
  unsigned grid_x, grid_y, grid_z;
  int threads;
  int shared_bytes;
  int most_shared_bytes;  // that a block may take on the device
};

// Why nothing can be launched on this machine: no driver, or one that is too old. Empty if it can.
std::string driver_fault();

// Why a device cannot run this build's kernels, of which this is one. Empty if it can.
std::string device_fault(int device, const void* kernel);

// Throws std::runtime_error, which names kernel, configuration and CUDA's error. Waits for nothing,
// so that errors of the kernel itself are found by whoever waits for the stream.
void launch_kernel(const Launch& launch, const void* kernel, void** arguments, Stream stream);

template <class... Arguments>
void run(const Launch& launch, void (*kernel)(Arguments...), Stream stream,
         Arguments... arguments) {
#if defined(FASTRNN_EMULATED)
  (void)stream;
  gpu::emulator::run({launch.grid_x, launch.grid_y, launch.grid_z}, launch.threads,
                     launch.shared_bytes, [&] { kernel(arguments...); });
#else
  void* pointers[] = {&arguments...};
  launch_kernel(launch, reinterpret_cast<const void*>(kernel), pointers, stream);
#endif
}

}  // namespace fastrnn::cuda
