// One random problem of the grid: its options, and arrays that end where their last element ends.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "lstm.h"

namespace fastrnn::native_tests {

enum class Lengths { kNone, kRandom, kZeros, kEqual };

struct Case {
  LstmShape shape;
  Lengths lengths;
  bool states, bias, reset, state_mask;  // given or not
  bool grad_y, grad_states;              // given or not
  bool grad_x, grad_weights;             // wanted or not
  int64_t threads;
  unsigned seed;
};

std::string to_string(const Case& c);

// An array of exactly this size, full of NaN, so that the sanitizer sees the first element beyond
// it and the comparison one that was never written. Without elements, or not wanted, it is null.
template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(int64_t size, bool is_there = true)
      : size_(is_there ? size : 0), data_(size_ ? new T[size_] : nullptr) {
    std::fill(begin(), end(), std::numeric_limits<T>::quiet_NaN());
  }
  T* get() const { return data_.get(); }
  int64_t size() const { return size_; }
  T* begin() const { return get(); }
  T* end() const { return get() + size_; }
  T& operator[](int64_t i) const { return data_[i]; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  int64_t size_ = 0;
  std::unique_ptr<T[]> data_;
};

template <class T>
struct Inputs {
  Inputs() = default;
  explicit Inputs(const Case& c);

  Array<int64_t> lengths;
  Array<uint8_t> reset;
  Array<T> x, w_ih, w_hh, bias, h_0, c_0, state_mask;
  Array<T> grad_y, grad_h_n, grad_c_n;
};

// The same inputs, each element changed up or down, at random, by the precision of T.
template <class T>
Inputs<double> perturbed(const Inputs<T>& in, unsigned draw);

template <class T>
struct Results {
  explicit Results(const Case& c);

  Array<T> y, h_n, c_n;
  Array<T> grad_x, grad_w_ih, grad_w_hh, grad_bias, grad_h_0, grad_c_0;

  struct Named {
    const char* name;
    const Array<T>& array;
  };
  std::vector<Named> all() const {
    return {{"y", y},
            {"h_n", h_n},
            {"c_n", c_n},
            {"grad_x", grad_x},
            {"grad_w_ih", grad_w_ih},
            {"grad_w_hh", grad_w_hh},
            {"grad_bias", grad_bias},
            {"grad_h_0", grad_h_0},
            {"grad_c_0", grad_c_0}};
  }
};

}  // namespace fastrnn::native_tests
