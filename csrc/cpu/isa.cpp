#include "isa.h"

#include <stdexcept>

namespace fastrnn {

#define FASTRNN_DECLARE(ISA)                    \
  namespace ISA {                               \
  extern const Kernels<float> kernels_float32;  \
  extern const Kernels<double> kernels_float64; \
  }

#if defined(FASTRNN_X86)
FASTRNN_DECLARE(avx512)
FASTRNN_DECLARE(avx2)
#endif
FASTRNN_DECLARE(portable)

#undef FASTRNN_DECLARE

const std::vector<InstructionSet>& instruction_sets() {
  static const std::vector<InstructionSet> sets = {
#if defined(FASTRNN_X86)
      {"avx512",
       [] {
         return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
       },
       avx512::kernels_float32, avx512::kernels_float64},
      {"avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); },
       avx2::kernels_float32, avx2::kernels_float64},
#endif
      {"portable", [] { return true; }, portable::kernels_float32, portable::kernels_float64},
  };
  return sets;
}

const InstructionSet& select_instruction_set(const std::string& name) {
  std::string usable;
  for (const InstructionSet& isa : instruction_sets()) {
    if (!isa.is_supported()) continue;
    if (name.empty() || name == isa.name) return isa;
    if (!usable.empty()) usable += ", ";
    usable += isa.name;
  }
  throw std::invalid_argument("FASTRNN_CPU_ISA is '" + name +
                              "', but this build on this CPU can run only: " + usable);
}

template <>
const Kernels<float>& kernels_of(const InstructionSet& isa) {
  return isa.float32;
}

template <>
const Kernels<double>& kernels_of(const InstructionSet& isa) {
  return isa.float64;
}

}  // namespace fastrnn
