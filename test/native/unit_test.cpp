// The units that the suites cannot reach through the library, each in a file of its own (*_test.cpp); none needs a
// model.
//
//   cllm-unit-test          prints the names of the units
//   cllm-unit-test NAME     tests that unit: a line per failed check; exit code 1 when there was one

#include "unit_test.h"

#include <cstdio>
#include <string_view>

namespace {

int failures = 0;

struct Unit {
  std::string_view name;
  void (*test)();
};

constexpr Unit kUnits[] = {
    {"choose", test_choose},
    {"stop rule", test_stop_rule},
    {"lane", test_lane},
    {"block chooser", test_block_chooser},
    {"draft candidates", test_draft_candidates},
    {"text stream", test_text_stream},
    {"thread governor", test_thread_governor},
    {"bf16 product", test_bf16_product},
    {"quantized product", test_quantized_product},
    {"half product", test_half_product},
    {"attention", test_attention},
    {"delta net", test_delta_net},
    {"context failure", test_context_failure},
};

}  // namespace

void check(bool ok, const std::string& what) {
  if (ok) return;
  failures++;
  std::printf("FAILED %s\n", what.c_str());
}

int main(int argc, char** argv) {
  if (argc < 2) {
    for (const Unit& unit : kUnits) std::printf("%s\n", unit.name.data());
    return 0;
  }
  for (const Unit& unit : kUnits) {
    if (unit.name != argv[1]) continue;
    unit.test();
    std::printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
  }
  std::printf("Expected one of the units but received %s\n", argv[1]);
  return 2;
}
