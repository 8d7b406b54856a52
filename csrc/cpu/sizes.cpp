#include "sizes.h"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace fastrnn {
namespace {

// Far beyond any memory, and low enough that a sum of several such sizes is still an int64_t.
constexpr int64_t kLimit = int64_t{1} << 60;

// Rounding up to whole vectors, and the gaps between rows, add less than this to a row.
constexpr int64_t kPadding = 128;

// The kernels collect at least so many rows of a batch at once.
constexpr int64_t kCollectedRows = 1024;

class TooLarge : public std::bad_alloc {
 public:
  explicit TooLarge(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// A positive number that stays at the limit once it has reached it.
class Size {
 public:
  explicit Size(int64_t value) : value_(std::min(value, kLimit)) {}
  bool is_too_large() const { return value_ == kLimit; }

  friend Size operator*(Size a, Size b) {
    int64_t product;
    return Size(__builtin_mul_overflow(a.value_, b.value_, &product) ? kLimit : product);
  }
  friend Size operator+(Size a, Size b) { return Size(a.value_ + b.value_); }

 private:
  int64_t value_;
};

std::string to_string(const LstmShape& shape) {
  return "seq_len=" + std::to_string(shape.seq_len) +
         ", batch_size=" + std::to_string(shape.batch_size) +
         ", input_size=" + std::to_string(shape.input_size) +
         ", hidden_size=" + std::to_string(shape.hidden_size) +
         ", num_directions=" + std::to_string(shape.num_directions) +
         ", num_gates=" + std::to_string(shape.num_gates);
}

void check_range(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return;
  const bool is_open = most == INT64_MAX;
  throw std::invalid_argument(
      std::string(name) + " is " + std::to_string(value) + "; it should be " +
      (is_open ? "at least " + std::to_string(least)
               : "between " + std::to_string(least) + " and " + std::to_string(most)));
}

}  // namespace

void check_sizes(const LstmShape& shape, int64_t num_threads, int64_t element_size) {
  check_range("seq_len", shape.seq_len, 1, INT64_MAX);
  check_range("batch_size", shape.batch_size, 1, INT64_MAX);
  check_range("input_size", shape.input_size, 1, INT64_MAX);
  check_range("hidden_size", shape.hidden_size, 1, INT64_MAX);
  check_range("num_directions", shape.num_directions, 1, 2);
  check_range("num_gates", shape.num_gates, 3, 4);
  check_range("num_threads", num_threads, 1, kMaxThreads);

  const Size T(shape.seq_len), B(shape.batch_size), I(shape.input_size), H(shape.hidden_size);
  const Size D(shape.num_directions), G(shape.num_gates), bytes(element_size);
  const auto check = [&](const char* what, Size size) {
    if (size.is_too_large())
      throw TooLarge(to_string(shape) + ": " + what +
                     " would take 2^60 bytes or more, which no machine has");
  };
  check("x", T * B * I * bytes);
  check("y", T * B * D * H * bytes);
  check("the reserve", T * B * D * Size(kReservePlanes) * H * bytes);
  check("grad_x", D * T * B * I * bytes);
  check("w_ih", D * G * H * I * bytes);
  check("w_hh", D * G * H * H * bytes);

  // More than what the kernels take: weights once for each direction and, as sums of gradients, for
  // each thread; rows of inputs, states, gates and their gradients for each thread.
  const Size padding(kPadding), threads(num_threads);
  const Size weights = G * (H + padding) * (I + H + padding);
  const Size row = (G + Size(4)) * (H + padding) + Size(4) * (I + padding);
  const Size rows = B + Size(kCollectedRows);
  check("the workspace", ((D + threads * D) * weights + Size(2) * threads * rows * row) * bytes);
  if ((T * B * D * G * H * (I + H)).is_too_large())
    throw TooLarge(to_string(shape) + ": the call would take 2^60 multiplications or more");
}

}  // namespace fastrnn
