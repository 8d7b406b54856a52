// One loop after the other, to be read beside the equations. Compiled without sanitizers, which
// would only slow it down.
#include "reference.h"

#include <cmath>
#include <utility>

namespace fastrnn::native_tests {
namespace {

template <class W, class T>
class Reference {
 public:
  Reference(const Case& c, const Inputs<T>& in)
      : in_(in), shape_(c.shape), results_(c), steps_(c.shape.seq_len, Step(c.shape.hidden_size)) {
    for (const auto& [name, array] : results_.all()) std::fill(array.begin(), array.end(), W(0));
  }

  Results<W> compute() {
    for (int64_t d = 0; d < shape_.num_directions; ++d)
      for (int64_t b = 0; b < shape_.batch_size; ++b) run(d, b);
    return std::move(results_);
  }

 private:
  struct Step {
    explicit Step(int64_t H) : i(H), f(H), g(H), o(H), c(H), h(H), h_in(H), c_in(H) {}
    std::vector<W> i, f, g, o, c, h;
    std::vector<W> h_in, c_in;  // the state that the step took, after reset and mask
    bool is_cut = false;
  };

  void run(int64_t d, int64_t b) {
    const int64_t length = in_.lengths ? in_.lengths[b] : shape_.seq_len;
    const int64_t H = shape_.hidden_size, at = (d * shape_.batch_size + b) * H;
    std::vector<W> h(H), c(H);
    for (int64_t u = 0; u < H; ++u) {
      h[u] = in_.h_0 ? W(in_.h_0[at + u]) : W(0);
      c[u] = in_.c_0 ? W(in_.c_0[at + u]) : W(0);
    }
    for (int64_t s = 0; s < length; ++s) {
      forward(d, b, s, d == 0 ? s : length - 1 - s, h, c);
      h = steps_[s].h;
      c = steps_[s].c;
    }
    std::vector<W> dh(H), dc(H);
    for (int64_t u = 0; u < H; ++u) {
      results_.h_n[at + u] = h[u];
      results_.c_n[at + u] = c[u];
      dh[u] = in_.grad_h_n ? W(in_.grad_h_n[at + u]) : W(0);
      dc[u] = in_.grad_c_n ? W(in_.grad_c_n[at + u]) : W(0);
    }
    for (int64_t s = length - 1; s >= 0; --s)
      backward(d, b, s, d == 0 ? s : length - 1 - s, dh, dc);
    std::copy(dh.begin(), dh.end(), results_.grad_h_0.begin() + at);
    std::copy(dc.begin(), dc.end(), results_.grad_c_0.begin() + at);
  }

  // Both directions are cut between the same two steps: the reset of a step cuts it from the one
  // before in time.
  bool is_cut(int64_t d, int64_t b, int64_t s, int64_t t) const {
    if (!in_.reset || (d == 1 && s == 0)) return false;
    return in_.reset[(t + d) * shape_.batch_size + b] != 0;
  }

  // Row of w_ih, w_hh and bias. Coupled gates have no f.
  int64_t row(int64_t d, int64_t gate, int64_t u) const {
    return (d * shape_.num_gates + gate) * shape_.hidden_size + u;
  }

  void forward(int64_t d, int64_t b, int64_t s, int64_t t, const std::vector<W>& h,
               const std::vector<W>& c) {
    const auto [T_, B, I, H, D, G] = shape_;
    Step& step = steps_[s];
    step.is_cut = is_cut(d, b, s, t);
    for (int64_t u = 0; u < H; ++u) {
      const W mask = in_.state_mask ? W(in_.state_mask[(d * B + b) * H + u]) : W(1);
      step.h_in[u] = step.is_cut ? W(0) : h[u] * mask;
      step.c_in[u] = step.is_cut ? W(0) : c[u];
    }
    for (int64_t u = 0; u < H; ++u) {
      W z[4];
      for (int64_t gate = 0; gate < G; ++gate) {
        const int64_t at = row(d, gate, u);
        z[gate] = in_.bias ? W(in_.bias[at]) : W(0);
        for (int64_t k = 0; k < I; ++k)
          z[gate] += W(in_.w_ih[at * I + k]) * in_.x[(t * B + b) * I + k];
        for (int64_t k = 0; k < H; ++k) z[gate] += W(in_.w_hh[at * H + k]) * step.h_in[k];
      }
      const auto sigmoid = [](W value) { return 1 / (1 + std::exp(-value)); };
      step.i[u] = sigmoid(z[0]);
      step.f[u] = G == 4 ? sigmoid(z[1]) : 1 - step.i[u];
      step.g[u] = std::tanh(z[G - 2]);
      step.o[u] = sigmoid(z[G - 1]);
      step.c[u] = step.f[u] * step.c_in[u] + step.i[u] * step.g[u];
      step.h[u] = step.o[u] * std::tanh(step.c[u]);
      results_.y[((t * B + b) * D + d) * H + u] = step.h[u];
    }
  }

  // From the gradients of the state that the step left to those of the state before it.
  void backward(int64_t d, int64_t b, int64_t s, int64_t t, std::vector<W>& dh,
                std::vector<W>& dc) {
    const auto [T_, B, I, H, D, G] = shape_;
    const Step& step = steps_[s];
    std::vector<W> dh_in(H);
    for (int64_t u = 0; u < H; ++u) {
      if (in_.grad_y) dh[u] += in_.grad_y[((t * B + b) * D + d) * H + u];
      const W i = step.i[u], f = step.f[u], g = step.g[u], o = step.o[u];
      const W tanh_c = std::tanh(step.c[u]);
      dc[u] += dh[u] * o * (1 - tanh_c * tanh_c);
      const W dz_i = dc[u] * g * i * (1 - i), dz_f = dc[u] * step.c_in[u] * f * (1 - f);
      const W dz_g = dc[u] * i * (1 - g * g), dz_o = dh[u] * tanh_c * o * (1 - o);
      const W dz[4] = {G == 4 ? dz_i : dz_i - dz_f, G == 4 ? dz_f : dz_g, G == 4 ? dz_g : dz_o,
                       dz_o};
      for (int64_t gate = 0; gate < G; ++gate)
        propagate(d, b, t, step, row(d, gate, u), dz[gate], dh_in);
      dc[u] *= f;
    }
    for (int64_t u = 0; u < H; ++u) {
      const W mask = in_.state_mask ? W(in_.state_mask[(d * B + b) * H + u]) : W(1);
      dh[u] = step.is_cut ? W(0) : dh_in[u] * mask;
      dc[u] = step.is_cut ? W(0) : dc[u];
    }
  }

  void propagate(int64_t d, int64_t b, int64_t t, const Step& step, int64_t row, W dz,
                 std::vector<W>& dh_in) {
    const auto [T_, B, I, H, D, G] = shape_;
    for (int64_t k = 0; k < H; ++k) dh_in[k] += dz * in_.w_hh[row * H + k];
    if (results_.grad_x)
      for (int64_t k = 0; k < I; ++k)
        results_.grad_x[((d * T_ + t) * B + b) * I + k] += dz * in_.w_ih[row * I + k];
    if (!results_.grad_w_ih) return;
    for (int64_t k = 0; k < I; ++k)
      results_.grad_w_ih[row * I + k] += dz * in_.x[(t * B + b) * I + k];
    for (int64_t k = 0; k < H; ++k) results_.grad_w_hh[row * H + k] += dz * step.h_in[k];
    results_.grad_bias[row] += dz;
  }

  const Inputs<T>& in_;
  const LstmShape shape_;
  Results<W> results_;
  std::vector<Step> steps_;
};

}  // namespace

template <class W, class T>
Results<W> reference(const Case& c, const Inputs<T>& in) {
  return Reference<W, T>(c, in).compute();
}

template Results<float> reference(const Case&, const Inputs<float>&);
template Results<double> reference(const Case&, const Inputs<float>&);
template Results<double> reference(const Case&, const Inputs<double>&);
template Results<long double> reference(const Case&, const Inputs<double>&);

}  // namespace fastrnn::native_tests
