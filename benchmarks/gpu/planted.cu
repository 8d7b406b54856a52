// Faults for compute-sanitizer to find: where it finds them, finding none elsewhere tells
// something. The argument names the tool; kernels are named so that the filter for the package's
// takes them.
#include <cstring>

constexpr int kThreads = 64;

// Writes behind the array.
__global__ void lstm_planted_memcheck(int* array) { array[kThreads + threadIdx.x] = 1; }

// Reads what the other warp writes, with no barrier in between.
__global__ void lstm_planted_racecheck(int* array) {
  __shared__ int shared[kThreads];
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  array[threadIdx.x] = shared[kThreads - 1 - threadIdx.x];
}

// Half of a warp passes by the barrier.
__global__ void lstm_planted_synccheck(int* array) {
  if (threadIdx.x < kThreads - 16) __syncthreads();
  array[threadIdx.x] = 1;
}

// Reads what nobody wrote.
__global__ void lstm_planted_initcheck(int* array) {
  array[threadIdx.x] = array[kThreads - 1 - threadIdx.x] + 1;
}

int main(int count, char** arguments) {
  if (count != 2) return 2;
  int* array = nullptr;
  if (cudaMalloc(&array, kThreads * sizeof(int)) != cudaSuccess) return 3;
  const char* tool = arguments[1];
  if (!strcmp(tool, "memcheck")) lstm_planted_memcheck<<<1, kThreads>>>(array);
  if (!strcmp(tool, "racecheck")) lstm_planted_racecheck<<<1, kThreads>>>(array);
  if (!strcmp(tool, "synccheck")) lstm_planted_synccheck<<<1, kThreads>>>(array);
  if (!strcmp(tool, "initcheck")) lstm_planted_initcheck<<<1, kThreads>>>(array);
  cudaDeviceSynchronize();  // that it fails is the point
  return 0;
}
