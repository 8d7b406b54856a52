// For the tests that use probing.py: small kernels, right ones and wrong ones, and what the real
// ones are made of, element by element.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/operand.h"

namespace py = pybind11;
namespace gpu = fastrnn::gpu;
namespace emulator = fastrnn::gpu::emulator;

namespace {

using namespace fastrnn::cuda;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

template <class T>
Array<T> zeros(std::vector<py::ssize_t> shape) {
  Array<T> array(shape);
  std::fill_n(array.mutable_data(), array.size(), T{0});
  return array;
}

float* shared_floats() { return reinterpret_cast<float*>(gpu::shared_memory()); }

void set_schedule(const std::string& name) {
  emulator::set_schedule(name == "ascending"    ? emulator::Schedule::ascending
                         : name == "descending" ? emulator::Schedule::descending
                                                : emulator::Schedule::shuffled);
}

// Which thread ran when: rows of block, thread, how many barriers it had passed, and whether its
// word of shared memory was NaN as it began. There, it leaves a number for later blocks to find.
Array<int> visits(unsigned x, unsigned y, unsigned z, int threads, int barriers) {
  auto rows = zeros<int>({static_cast<py::ssize_t>(x * y * z) * threads * (barriers + 1), 6});
  int* to = rows.mutable_data();
  emulator::run({x, y, z}, threads, 4 * 16 * ((threads + 15) / 16), [&] {
    const int thread = gpu::thread_index();
    const bool was_nan = std::isnan(shared_floats()[thread]);
    shared_floats()[thread] = 1.0f;
    for (int passed = 0; passed <= barriers; ++passed) {
      if (passed) gpu::barrier();
      for (int value :
           {gpu::block_x(), gpu::block_y(), gpu::block_z(), thread, passed, int{was_nan}}) {
        *to++ = value;
      }
    }
  });
  return rows;
}

// c + a b, of the registers [thread][...] of one warp or more.
Array<float> multiply(const std::string& name, const Array<uint32_t>& a, const Array<uint32_t>& b,
                      const Array<float>& c) {
  const auto instruction = name == "half"       ? gpu::mma_half
                           : name == "bfloat16" ? gpu::mma_bfloat16
                                                : gpu::mma_tf32;
  const int threads = static_cast<int>(c.shape(0));
  auto sums = zeros<float>({threads, 4});
  float* const to = sums.mutable_data();
  emulator::run({1, 1, 1}, threads, 0, [&] {
    const int thread = gpu::thread_index();
    float own[4];
    std::copy_n(c.data() + 4 * thread, 4, own);
    instruction(own, a.data() + 4 * thread, b.data()[2 * thread], b.data()[2 * thread + 1]);
    std::copy_n(own, 4, to + 4 * thread);
  });
  return sums;
}

// `rows`, each of four words, are put into shared memory; each thread points at one of them.
Array<uint32_t> load_matrices(const Array<uint32_t>& rows, const std::vector<int>& row_of_thread) {
  const int threads = static_cast<int>(row_of_thread.size());
  auto loaded = zeros<uint32_t>({threads, 4});
  uint32_t* const to = loaded.mutable_data();
  emulator::run({1, 1, 1}, threads, static_cast<int>(rows.nbytes()), [&] {
    const int thread = gpu::thread_index();
    if (thread == 0) std::memcpy(gpu::shared_memory(), rows.data(), rows.nbytes());
    gpu::barrier();
    uint32_t words[4];
    gpu::load_matrices(words, gpu::shared_memory() + 16 * row_of_thread[thread]);
    std::copy_n(words, 4, to + 4 * thread);
  });
  return loaded;
}

Array<float> shuffle_xor(const Array<float>& values, int mask) {
  auto shuffled = zeros<float>({values.size()});
  float* const to = shuffled.mutable_data();
  emulator::run({1, 1, 1}, static_cast<int>(values.size()), 0, [&] {
    const int thread = gpu::thread_index();
    to[thread] = gpu::shuffle_xor(values.data()[thread], mask);
  });
  return shuffled;
}

// As states go from step to step: each thread adds the number that the thread 33 further, one of
// another warp, had a step before.
Array<float> add_neighbors(int threads, int steps, const std::string& mistake) {
  const int buffers = mistake == "one buffer" ? 1 : 2;
  auto sums = zeros<float>({threads});
  float* const to = sums.mutable_data();
  emulator::run({1, 1, 1}, threads, 2 * 4 * threads, [&] {
    const int thread = gpu::thread_index();
    float sum = static_cast<float>(thread);
    for (int step = 0; step < steps; ++step) {
      shared_floats()[step % buffers * threads + thread] = sum;
      if (mistake != "no barrier") gpu::barrier();
      sum += shared_floats()[step % buffers * threads + (thread + 33) % threads];
    }
    to[thread] = sum;
  });
  return sums;
}

// As inputs come: each thread copies its element of a row and adds up another warp's, row by row.
// Three rows have a place; two are on the way while one is read.
Array<float> add_rows(const Array<float>& rows, const std::string& mistake) {
  constexpr int kStages = 3;
  const int steps = static_cast<int>(rows.shape(0)), threads = static_cast<int>(rows.shape(1));
  const int ahead = mistake == "copies over what others read" ? kStages : kStages - 1;
  auto sums = zeros<float>({threads});
  float* const to = sums.mutable_data();
  emulator::run({1, 1, 1}, threads, kStages * 4 * threads, [&] {
    const int thread = gpu::thread_index();
    const auto copy = [&](int step) {
      const bool valid = step < steps;
      gpu::copy_async<4>(shared_floats() + step % kStages * threads + thread,
                         valid ? rows.data() + step * threads + thread : nullptr, valid);
      gpu::commit_copies();
    };
    float sum = 0.0f;
    for (int step = 0; step < ahead; ++step) copy(step);
    for (int step = 0; step < steps; ++step) {
      if (mistake == "waits for too few") {
        gpu::wait_copies<kStages - 1>();
      } else if (mistake != "no wait") {
        gpu::wait_copies<kStages - 2>();
      }
      if (mistake != "no barrier") gpu::barrier();
      sum += shared_floats()[step % kStages * threads + (thread + 33) % threads];
      copy(step + ahead);
    }
    to[thread] = sum;
  });
  return sums;
}

// What four floats of shared memory hold after a wait: one copied in each of three groups, the last
// of them not valid, and one that was never committed.
template <int Pending>
std::vector<float> copied_after_wait() {
  const float from[] = {1.0f, 2.0f, 3.0f, 4.0f};
  std::vector<float> found;
  emulator::run({1, 1, 1}, 1, 16, [&] {
    std::fill_n(shared_floats(), 4, -1.0f);
    for (int n = 0; n < 4; ++n) {
      gpu::copy_async<4>(shared_floats() + n, from + n, n != 2);
      if (n < 3) gpu::commit_copies();
    }
    gpu::wait_copies<Pending>();
    found.assign(shared_floats(), shared_floats() + 4);
  });
  return found;
}

// A copy, or a row of load_matrices (`width` 0), at any place of 256 bytes of shared memory.
void reach(int width, int to, int from) {
  alignas(16) const char source[64] = {};
  emulator::run({1, 1, 1}, 32, 256, [&] {
    char* const at = gpu::shared_memory() + to;
    uint32_t words[4];
    if (width == 0) gpu::load_matrices(words, at);
    if (width == 4) gpu::copy_async<4>(at, source + from, true);
    if (width == 16) gpu::copy_async<16>(at, source + from, true);
  });
}

int alive = 0, went_on = 0;
struct CountedAlive {
  CountedAlive() { ++alive; }
  ~CountedAlive() { --alive; }
};

// Each thread of block (1, 0, 0) goes where it is told to: where they do not meet is an error.
void meet(const std::vector<std::string>& places) {
  went_on = 0;
  emulator::run({2, 1, 1}, static_cast<int>(places.size()), 16, [&] {
    if (gpu::block_x() == 0) return;
    const CountedAlive counted;
    const std::string& place = places[gpu::thread_index()];
    uint32_t words[4] = {};
    float sums[4] = {};
    if (place == "barrier") gpu::barrier();
    if (place == "load_matrices") gpu::load_matrices(words, gpu::shared_memory());
    if (place == "mma_half") gpu::mma_half(sums, words, 0, 0);
    if (place == "shuffle_xor 1") gpu::shuffle_xor(0.0f, 1);
    if (place == "shuffle_xor 2") gpu::shuffle_xor(0.0f, 2);
    if (place == "shuffle_xor 32") gpu::shuffle_xor(0.0f, 32);
    if (place == "launch") emulator::run({1, 1, 1}, 1, 0, [] {});
    if (place == "throw") throw std::out_of_range("thrown by the kernel");
    if (place != "end") ++went_on;
  });
}

// One launch for each number of bytes; in the last one, a byte at `at` is read or written.
void touch(const std::vector<int>& launches, int at, bool writes) {
  for (size_t launch = 0; launch < launches.size(); ++launch) {
    emulator::run({1, 1, 1}, 1, launches[launch], [&] {
      if (launch + 1 < launches.size()) return;
      volatile char* const byte = gpu::shared_memory() + at;
      if (writes) {
        *byte = 1;
      } else {
        static_cast<void>(*byte);
      }
    });
  }
}

std::tuple<int, int, int, int> lane_of(int thread) {
  const Lane lane = Lane::of(thread);
  return {lane.warp, lane.lane, lane.group, lane.member};
}

// The sums [lane][fragment][register] of a pair of fragments, [fragment][half][lane][register],
// and one chunk of 8 rows of 16 words.
template <Precision precision>
Array<float> multiply_chunk(const Array<uint32_t>& weights, const Array<uint32_t>& rows) {
  using A = Arithmetic<precision>;
  constexpr int kStride = row_bytes(1), kFragments = 2;
  auto sums = zeros<float>({kWarpSize, kFragments, 4});
  float* const to = sums.mutable_data();
  emulator::run({1, 1, 1}, kWarpSize, kTileRows * kStride, [&] {
    const Lane lane = Lane::of(gpu::thread_index());
    if (lane.lane < kTileRows) {
      std::memcpy(gpu::shared_memory() + lane.lane * kStride, rows.data() + lane.lane * 16,
                  kChunkBytes);
    }
    gpu::barrier();
    uint32_t a[kFragments][2][4];
    for (int n = 0; n < 2 * kFragments; ++n) {
      std::copy_n(weights.data() + (n * kWarpSize + lane.lane) * 4, 4, a[n / 2][n % 2]);
    }
    const float start[kFragments][4] = {};
    float own[kFragments][4];
    Accumulator<A, kFragments, 1> accumulator;
    accumulator.start(start);
    accumulator.add(a, {gpu::shared_memory(), kStride}, 0, 0, lane, false);
    accumulator.finish(own, lane);
    std::copy_n(own[0], 4 * kFragments, to + lane.lane * 4 * kFragments);
  });
  return sums;
}

template <class To, class From>
void bind_elementwise(py::module_& m, const char* name, To (*function)(From)) {
  m.def(name, [function](const Array<From>& from) {
    auto to = zeros<To>({from.size()});
    std::transform(from.data(), from.data() + from.size(), to.mutable_data(), function);
    return to;
  });
}

template <class Math>
void bind_activations(py::module_ m) {
  bind_elementwise(m, "tanh", &Math::tanh);
  bind_elementwise(m, "sigmoid", &Math::sigmoid);
  const auto bind_pair = [&m](const char* name, void (*both)(float, float, float&, float&)) {
    m.def(name, [both](const Array<float>& x0, const Array<float>& x1) {
      auto found = zeros<float>({2, x0.size()});
      for (py::ssize_t n = 0; n < x0.size(); ++n) {
        both(x0.data()[n], x1.data()[n], found.mutable_data(0)[n], found.mutable_data(1)[n]);
      }
      return found;
    });
  };
  bind_pair("sigmoid_and_tanh", &Math::sigmoid_and_tanh);
  bind_pair("sigmoid_pair", &Math::sigmoid_pair);
}

}  // namespace

PYBIND11_MODULE(emulator_probe, m) {
  m.def("set_schedule", &set_schedule);
  m.def("run_nothing", [](int threads, int shared_bytes) {
    emulator::run({1, 1, 1}, threads, shared_bytes, [] {});
  });
  m.def("barrier", &gpu::barrier);
  m.def("visits", &visits, py::arg("x"), py::arg("y"), py::arg("z"), py::arg("threads"),
        py::arg("barriers"));
  m.def("multiply", &multiply);
  m.def("load_matrices", &load_matrices);
  m.def("shuffle_xor", &shuffle_xor);
  m.def("add_neighbors", &add_neighbors);
  m.def("add_rows", &add_rows);
  m.def("copied_after_wait", [](int pending) {
    return pending == 0   ? copied_after_wait<0>()
           : pending == 1 ? copied_after_wait<1>()
           : pending == 2 ? copied_after_wait<2>()
                          : copied_after_wait<3>();
  });
  m.def("reach", &reach);
  m.def("meet", &meet);
  m.def("alive", [] { return alive; });
  m.def("went_on", [] { return went_on; });
  m.def("touch", &touch);

  bind_elementwise(m, "half_from_float", &gpu::half_from_float);
  bind_elementwise(m, "float_from_half", &gpu::float_from_half);
  bind_elementwise(m, "bfloat16_from_float", &gpu::bfloat16_from_float);
  bind_elementwise(m, "float_from_bfloat16", &gpu::float_from_bfloat16);
  bind_elementwise(m, "tf32_from_float", &gpu::tf32_from_float);
  bind_elementwise(m, "tanh_approximate", &gpu::tanh_approximate);
  bind_elementwise(m, "exp2_approximate", &gpu::exp2_approximate);
  bind_elementwise(m, "reciprocal_approximate", &gpu::reciprocal_approximate);
  bind_activations<FastMath>(m.def_submodule("fast"));
  bind_activations<AccurateMath>(m.def_submodule("accurate"));

  m.def("lane_of", &lane_of);
  m.def("a_row", &a_row);
  m.def("a_word", &a_word);
  m.def("a_word_exact", &a_word_exact);
  m.def("gate_of", &gate_of);
  m.def("unit_of", &unit_of);
  m.def("gate_column", &gate_column);
  m.def("multiply_chunk_half", &multiply_chunk<Precision::half>);
  m.def("multiply_chunk_bfloat16", &multiply_chunk<Precision::bfloat16>);
  m.def("multiply_chunk_tf32", &multiply_chunk<Precision::tf32>);
  m.def("multiply_chunk_exact", &multiply_chunk<Precision::exact>);
}
