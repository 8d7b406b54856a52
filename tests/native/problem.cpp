#include "problem.h"

#include <cmath>
#include <random>

namespace fastrnn::native_tests {
namespace {

template <class T>
void fill(const Array<T>& array, std::mt19937& rng, double scale) {
  std::normal_distribution<double> normal(0, scale);
  for (T& element : array) element = static_cast<T>(normal(rng));
}

Array<int64_t> draw_lengths(const Case& c, std::mt19937& rng) {
  Array<int64_t> lengths(c.shape.batch_size, c.lengths != Lengths::kNone);
  std::uniform_int_distribution<int64_t> any(1, c.shape.seq_len);
  for (int64_t b = 0; b < lengths.size(); ++b) {
    lengths[b] = c.lengths == Lengths::kEqual ? (c.shape.seq_len + 1) / 2 : any(rng);
    if (c.lengths == Lengths::kZeros && b % 2 == 0) lengths[b] = 0;
  }
  return lengths;
}

// NaN in the padding: it must not be read.
template <class T>
void poison_padding(const Case& c, const Array<int64_t>& lengths, const Array<T>& of_steps) {
  const int64_t B = c.shape.batch_size, size = of_steps.size() / (c.shape.seq_len * B);
  for (int64_t b = 0; b < lengths.size(); ++b)
    for (int64_t t = lengths[b]; t < c.shape.seq_len; ++t)
      std::fill_n(of_steps.begin() + (t * B + b) * size, size, std::numeric_limits<T>::quiet_NaN());
}

template <class T, class Change>
auto map(const Array<T>& array, const Change& change) {
  Array<decltype(change(T()))> changed(array.size());
  std::transform(array.begin(), array.end(), changed.begin(), change);
  return changed;
}

}  // namespace

template <class T>
Inputs<T>::Inputs(const Case& c) {
  const auto [T_, B, I, H, D, G] = c.shape;
  std::mt19937 rng(c.seed);
  lengths = draw_lengths(c, rng);
  reset = Array<uint8_t>(T_ * B, c.reset);
  for (uint8_t& cut : reset) cut = rng() % 10 < 3 ? 1 + rng() % 255 : 0;

  const auto random = [&](int64_t size, double scale, bool is_there = true) {
    Array<T> array(size, is_there);
    fill(array, rng, scale);
    return array;
  };
  x = random(T_ * B * I, 1);
  w_ih = random(D * G * H * I, 1 / std::sqrt(I));
  w_hh = random(D * G * H * H, 1 / std::sqrt(H));
  bias = random(D * G * H, 0.5, c.bias);
  h_0 = random(D * B * H, 0.5, c.states);
  c_0 = random(D * B * H, 1, c.states);
  state_mask = random(D * B * H, 1, c.state_mask);
  for (T& kept : state_mask) kept = kept < 0.5 ? T(1 / 0.7) : T(0);
  grad_y = random(T_ * B * D * H, 1, c.grad_y);
  grad_h_n = random(D * B * H, 1, c.grad_states);
  grad_c_n = random(D * B * H, 1, c.grad_states);
  poison_padding(c, lengths, x);
  if (grad_y) poison_padding(c, lengths, grad_y);
}

template <class T>
Results<T>::Results(const Case& c) {
  const auto [T_, B, I, H, D, G] = c.shape;
  y = Array<T>(T_ * B * D * H);
  h_n = Array<T>(D * B * H);
  c_n = Array<T>(D * B * H);
  grad_x = Array<T>(D * T_ * B * I, c.grad_x);
  grad_w_ih = Array<T>(D * G * H * I, c.grad_weights);
  grad_w_hh = Array<T>(D * G * H * H, c.grad_weights);
  grad_bias = Array<T>(D * G * H, c.grad_weights);
  grad_h_0 = Array<T>(D * B * H);
  grad_c_0 = Array<T>(D * B * H);
}

template <class T>
Inputs<double> perturbed(const Inputs<T>& in, unsigned draw) {
  std::mt19937 rng(draw);
  const auto same = [](auto value) { return value; };
  const auto moved = [&](T value) {
    const double eps = std::numeric_limits<T>::epsilon();
    return static_cast<double>(value) * (1 + (rng() % 2 ? eps : -eps));
  };
  Inputs<double> out;
  out.lengths = map(in.lengths, same);
  out.reset = map(in.reset, same);
  out.x = map(in.x, moved);
  out.w_ih = map(in.w_ih, moved);
  out.w_hh = map(in.w_hh, moved);
  out.bias = map(in.bias, moved);
  out.h_0 = map(in.h_0, moved);
  out.c_0 = map(in.c_0, moved);
  out.state_mask = map(in.state_mask, moved);
  out.grad_y = map(in.grad_y, moved);
  out.grad_h_n = map(in.grad_h_n, moved);
  out.grad_c_n = map(in.grad_c_n, moved);
  return out;
}

template Inputs<double> perturbed(const Inputs<float>&, unsigned);
template Inputs<double> perturbed(const Inputs<double>&, unsigned);
template struct Inputs<float>;
template struct Inputs<double>;
template struct Results<float>;
template struct Results<double>;
template struct Results<long double>;

std::string to_string(const Case& c) {
  static const char* const kLengths[] = {"none", "random", "zeros", "equal"};
  const auto [T, B, I, H, D, G] = c.shape;
  std::string text = "T=" + std::to_string(T) + " B=" + std::to_string(B) +
                     " I=" + std::to_string(I) + " H=" + std::to_string(H) +
                     " D=" + std::to_string(D) + " G=" + std::to_string(G) + " lengths " +
                     kLengths[static_cast<int>(c.lengths)] + ", threads " +
                     std::to_string(c.threads) + ", seed " + std::to_string(c.seed);
  const auto add = [&](const char* name, bool is_there) {
    if (is_there) text += std::string(", ") + name;
  };
  add("states", c.states);
  add("bias", c.bias);
  add("reset", c.reset);
  add("state_mask", c.state_mask);
  add("grad_y", c.grad_y);
  add("grad_h_n and grad_c_n", c.grad_states);
  add("wants grad_x", c.grad_x);
  add("wants weight gradients", c.grad_weights);
  return text;
}

}  // namespace fastrnn::native_tests
