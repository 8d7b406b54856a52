#include "grid.h"

#include <cmath>
#include <cstdio>
#include <cstring>

#include "cpu/lstm_cpu.h"
#include "reference.h"

namespace fastrnn::native_tests {
namespace {

// The bound of fastrnn/recurrence/verification.py: so many times the precision's own error, and
// never more than this share of the largest value where there are more than a few.
constexpr double kTolerance = 16;
constexpr double kLargestShare = 0.25;
constexpr int64_t kFewElements = 8;
constexpr unsigned kPerturbations = 4;

template <class T>
Array<T> run_forward(const InstructionSet& isa, const Case& c, const Plan& plan,
                     const Inputs<T>& in, const Results<T>& out, bool is_training) {
  const auto [T_, B, I, H, D, G] = c.shape;
  Array<T> reserve(T_ * B * D * kReservePlanes * H, is_training);
  const Array<T> workspace(forward_workspace<T>(isa, c.shape, plan));
  lstm_forward<T>(isa,
                  {.shape = c.shape,
                   .x = in.x.get(),
                   .w_ih = in.w_ih.get(),
                   .w_hh = in.w_hh.get(),
                   .bias = in.bias.get(),
                   .h_0 = in.h_0.get(),
                   .c_0 = in.c_0.get(),
                   .lengths = in.lengths.get(),
                   .reset = in.reset.get(),
                   .state_mask = in.state_mask.get(),
                   .y = out.y.get(),
                   .h_n = out.h_n.get(),
                   .c_n = out.c_n.get(),
                   .reserve = reserve.get()},
                  plan, workspace.get());
  return reserve;
}

template <class T>
void run_backward(const InstructionSet& isa, const Case& c, const Plan& plan, const Inputs<T>& in,
                  const Array<T>& reserve, const Results<T>& out) {
  const Array<T> workspace(backward_workspace<T>(isa, c.shape, plan, c.grad_x, c.grad_weights));
  lstm_backward<T>(isa,
                   {.shape = c.shape,
                    .x = in.x.get(),
                    .w_ih = in.w_ih.get(),
                    .w_hh = in.w_hh.get(),
                    .h_0 = in.h_0.get(),
                    .c_0 = in.c_0.get(),
                    .lengths = in.lengths.get(),
                    .reset = in.reset.get(),
                    .state_mask = in.state_mask.get(),
                    .y = out.y.get(),
                    .reserve = reserve.get(),
                    .grad_y = in.grad_y.get(),
                    .grad_h_n = in.grad_h_n.get(),
                    .grad_c_n = in.grad_c_n.get(),
                    .grad_x = out.grad_x.get(),
                    .grad_w_ih = out.grad_w_ih.get(),
                    .grad_w_hh = out.grad_w_hh.get(),
                    .grad_bias = out.grad_bias.get(),
                    .grad_h_0 = out.grad_h_0.get(),
                    .grad_c_0 = out.grad_c_0.get()},
                   plan, workspace.get());
}

template <class T>
Results<T> run(const InstructionSet& isa, const Case& c, const Inputs<T>& in) {
  const Plan plan(c.shape, in.lengths.get(), c.threads);
  Results<T> out(c);
  const Array<T> reserve = run_forward(isa, c, plan, in, out, true);
  run_backward(isa, c, plan, in, reserve, out);
  return out;
}

template <class A, class B>
double largest_difference(const Array<A>& a, const Array<B>& b) {
  double largest = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i] - b[i]));
    if (!(difference <= largest)) largest = difference;  // so that a NaN counts
    if (std::isnan(largest)) break;
  }
  return largest;
}

// What a case should give in the precision T, which W surpasses.
template <class T, class W>
class Expectation {
 public:
  Expectation(const Case& c, const Inputs<T>& in)
      : case_(c), in_(in), truth_(reference<W>(c, in)), rounded_(reference<T>(c, in)) {}

  // How the result number `i` is wrong, or nothing.
  std::string what_is_wrong(size_t i, const Array<T>& got) {
    const auto [name, truth] = truth_.all()[i];
    const double error = largest_difference(got, truth);
    double own_error = largest_difference(rounded_.all()[i].array, truth);
    if (!(error <= allowed(own_error, truth))) {
      // With few elements plain arithmetic may be right by luck: what rounding the inputs does
      // counts as well. Seldom needed, and slow.
      if (moved_.empty())
        for (unsigned draw = 0; draw < kPerturbations; ++draw)
          moved_.push_back(reference<W>(case_, perturbed(in_, draw)));
      for (const Results<W>& moved : moved_)
        own_error = std::max(own_error, largest_difference(moved.all()[i].array, truth));
      if (!(error <= allowed(own_error, truth))) {
        char text[100];
        std::snprintf(text, sizeof text, " is off by %.3g, allowed are %.3g", error,
                      allowed(own_error, truth));
        return name + std::string(text);
      }
    }
    return "";
  }

 private:
  static double allowed(double own_error, const Array<W>& truth) {
    double largest = 0;
    for (const W value : truth) largest = std::max(largest, std::abs(static_cast<double>(value)));
    const double most = truth.size() < kFewElements ? INFINITY : kLargestShare * largest;
    return std::min(kTolerance * own_error, most);
  }

  const Case& case_;
  const Inputs<T>& in_;
  Results<W> truth_;
  Results<T> rounded_;
  std::vector<Results<W>> moved_;
};

int report(const InstructionSet& isa, const char* type, const Case& c, const std::string& what) {
  std::printf("wrong, %s %s, %s: %s\n", isa.name, type, to_string(c).c_str(), what.c_str());
  return 1;
}

template <class T>
bool is_same(const Array<T>& a, const Array<T>& b) {
  return a.size() == b.size() &&
         (a.size() == 0 || std::memcmp(a.get(), b.get(), a.size() * sizeof(T)) == 0);
}

// One case on all instruction sets.
template <class T, class W>
int check_case(const Case& c, const char* type) {
  const Inputs<T> in(c);
  Expectation<T, W> expected(c, in);
  int wrong = 0;
  for (const InstructionSet& isa : instruction_sets()) {
    if (!isa.is_supported()) continue;
    const Results<T> first = run(isa, c, in), second = run(isa, c, in);
    const auto got = first.all(), again = second.all();
    for (size_t i = 0; i < got.size(); ++i) {
      const std::string what = expected.what_is_wrong(i, got[i].array);
      if (!what.empty()) wrong += report(isa, type, c, what);
      if (!is_same(got[i].array, again[i].array))
        wrong += report(isa, type, c, std::string(got[i].name) + " differs from run to run");
    }
    const Results<T> inference(c);
    run_forward(isa, c, Plan(c.shape, in.lengths.get(), c.threads), in, inference, false);
    if (!is_same(inference.y, first.y))
      wrong += report(isa, type, c, "y differs without a reserve");
  }
  return wrong;
}

// All combinations of sizes; the options go around, so that each meets each.
std::vector<Case> small_cases() {
  std::vector<Case> cases;
  unsigned seed = 0;
  for (const int64_t T : {1, 3, 7, 16})
    for (const int64_t B : {1, 3, 11, 16})
      for (const int64_t I : {1, 3, 13, 32})
        for (const int64_t H : {1, 5, 17, 32})
          for (const int64_t D : {1, 2})
            for (const int64_t G : {4, 3})
              for (const Lengths lengths :
                   {Lengths::kNone, Lengths::kRandom, Lengths::kZeros, Lengths::kEqual}) {
                const unsigned o = ++seed * 2654435761u >> 16;  // bits that look random
                const auto has = [&](int bit) { return (o >> bit & 1) != 0; };
                cases.push_back({{T, B, I, H, D, G},
                                 lengths,
                                 has(0),
                                 has(1),
                                 has(2),
                                 has(3),
                                 has(4) || !has(5),
                                 has(5),
                                 has(6),
                                 has(7),
                                 2,
                                 seed});
              }
  return cases;
}

// Enough work for several threads, rows for several tasks, and units for many tiles.
std::vector<Case> large_cases() {
  std::vector<Case> cases;
  unsigned seed = 1'000'000;
  for (const int64_t D : {1, 2})
    for (const int64_t threads : {1, 2, 3, 5})
      for (const Lengths lengths : {Lengths::kNone, Lengths::kRandom, Lengths::kZeros}) {
        const bool even = ++seed % 2 == 0;
        const int64_t G = even ? 4 : 3;
        cases.push_back({{12, 70, 7, 33, D, G},
                         lengths,
                         even,
                         !even,
                         !even,
                         even,
                         true,
                         even,
                         true,
                         true,
                         threads,
                         seed});
        cases.push_back({{4, 128, 33, 48, D, G},  // with one thread, tasks of the most rows
                         lengths,
                         !even,
                         even,
                         even,
                         !even,
                         true,
                         true,
                         even,
                         true,
                         threads,
                         seed});
        cases.push_back({{70, 1, 20, 96, D, G},
                         lengths,
                         even,
                         even,
                         !even,
                         even,
                         even,
                         !even,
                         even,
                         true,
                         threads,
                         seed});
        cases.push_back({{16, 2, 130, 100, D, G},
                         lengths,
                         true,
                         true,
                         false,
                         false,
                         !even,
                         true,
                         true,
                         even,
                         threads,
                         seed});
      }
  return cases;
}

std::vector<Case> every_nth(std::vector<Case> cases, size_t n) {
  std::vector<Case> chosen;
  for (size_t i = n / 2; i < cases.size(); i += n) chosen.push_back(cases[i]);
  return chosen;
}

}  // namespace

int check_grid(bool is_short) {
  int wrong = 0;
  size_t count = 0;
  const auto check_all = [&](const std::vector<Case>& cases) {
    for (const Case& c : cases)
      wrong += check_case<float, double>(c, "float") + check_case<double, long double>(c, "double");
    count += cases.size();
  };
#if defined(__SANITIZE_THREAD__)
  constexpr size_t kFewer = 5;  // small cases run on one thread
#else
  constexpr size_t kFewer = 1;
#endif
  // Sizes and options repeat with periods that have no divisor in common with these.
  check_all(every_nth(small_cases(), (is_short ? 37 : 1) * kFewer));
  check_all(every_nth(large_cases(), is_short ? 7 : 1));
  std::string isas;
  for (const InstructionSet& isa : instruction_sets())
    if (isa.is_supported()) isas += std::string(isas.empty() ? "" : ", ") + isa.name;
  std::printf("grid: %zu cases, in float and double, on %s: %d wrong\n", count, isas.c_str(),
              wrong);
  return wrong;
}

}  // namespace fastrnn::native_tests
