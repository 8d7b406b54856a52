// grid [--short | --plant address|undefined|thread]
#include <cstdio>
#include <cstring>

#include "cpu/handover.h"
#include "grid.h"

int main(int count, char** arguments) {
  using namespace fastrnn::native_tests;
  if (count == 3 && !std::strcmp(arguments[1], "--plant")) return plant(arguments[2]);
  const bool is_short = count == 2 && !std::strcmp(arguments[1], "--short");
  if (count > 1 && !is_short) {
    std::printf("usage: grid [--short | --plant address|undefined|thread]\n");
    return 2;
  }
  std::printf("a handover takes %.0f ns\n", fastrnn::handover_ns());
  fastrnn::set_handover_ns(fastrnn::kShortHandoverNs);  // so that units are split on every machine
  return check_limits() + check_grid(is_short) == 0 ? 0 : 1;
}
