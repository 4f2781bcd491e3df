#include "product_sets_test.h"

const cllm::ProductSet* avx_vnni_as_avx512();  // avx_vnni_as_avx512.cpp

std::vector<const cllm::ProductSet*> tested_sets() {
  std::vector<const cllm::ProductSet*> sets = cllm::product_sets();
  const cllm::ProductSet* other = avx_vnni_as_avx512();
  if (other != nullptr && other->runs_here()) sets.push_back(other);
  return sets;
}
