#include "launch.h"

#include <cuda_runtime_api.h>

#include <stdexcept>

namespace fastrnn::cuda {
namespace {

constexpr int kDefaultSharedBytes = 48 * 1024;  // beyond, a kernel must be allowed to take more

void check(cudaError_t status, const Launch& launch, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // told here: the next call must not find it again
  throw std::runtime_error(
      launch.what + " (" + std::to_string(launch.grid_x) + " x " + std::to_string(launch.grid_y) +
      " x " + std::to_string(launch.grid_z) + " blocks of " + std::to_string(launch.threads) +
      " threads, " + std::to_string(launch.shared_bytes) + " bytes of shared memory): " + call +
      " failed with " + cudaGetErrorName(status) + ", " + cudaGetErrorString(status));
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

std::string driver_fault() {
  int driver = 0;
  if (const cudaError_t status = cudaDriverGetVersion(&driver); status != cudaSuccess)
    return std::string("the CUDA driver does not tell its version: ") + cudaGetErrorString(status);
  if (driver == 0) return "there is no CUDA driver";
  // Within a major version older drivers run newer code, except for PTX.
  if (driver / 1000 < CUDART_VERSION / 1000)
    return "the CUDA driver is for CUDA " + version_text(driver) +
           ", but the kernels were built with " + version_text(CUDART_VERSION);
  return "";
}

std::string device_fault(int device, const void* kernel) {
  cudaFuncAttributes attributes;
  cudaError_t status = cudaSetDevice(device);
  if (status == cudaSuccess) status = cudaFuncGetAttributes(&attributes, kernel);
  if (status == cudaSuccess) return "";
  cudaGetLastError();
  return std::string("the kernels in this build cannot be loaded there: ") +
         cudaGetErrorName(status) + ", " + cudaGetErrorString(status);
}

void launch_kernel(const Launch& launch, const void* kernel, void** arguments, Stream stream) {
  // Torch has chosen the device in its own copy of CUDA's runtime; this copy must know as well.
  check(cudaSetDevice(stream.device), launch, "cudaSetDevice");
  if (launch.shared_bytes > kDefaultSharedBytes)
    // The same for all calls: another thread's smaller one must not take it back.
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               launch.most_shared_bytes),
          launch, "cudaFuncSetAttribute");
  check(cudaLaunchKernel(kernel, dim3(launch.grid_x, launch.grid_y, launch.grid_z),
                         dim3(static_cast<unsigned>(launch.threads)), arguments,
                         static_cast<size_t>(launch.shared_bytes),
                         static_cast<cudaStream_t>(stream.handle)),
        launch, "cudaLaunchKernel");
}

}  // namespace fastrnn::cuda
