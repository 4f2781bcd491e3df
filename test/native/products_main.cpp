// Tests of the products and the attention alone. Nothing of llama.cpp is linked, so that a cross-compiler makes the
// program in seconds: test/19 runs it on an emulated ARM CPU. It names the sets that it has tested.
#include <cstdio>

#include "product_sets_test.h"
#include "unit_test.h"

namespace {

int failures = 0;

}  // namespace

void check(bool ok, const std::string& what) {
  if (ok) return;
  failures++;
  std::printf("FAILED %s\n", what.c_str());
}

int main() {
  for (const cllm::ProductSet* set : tested_sets()) std::printf("%s\n", set->name);
  test_quantized_product();
  test_half_product();
  test_attention();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
