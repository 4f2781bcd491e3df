// The choice of the set, and the interfaces that go through it.
#include "products/product_set.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "products/quantized_layout.h"

namespace cllm {

// Each is in a file of its own name and is null where the compiler cannot make it.
const ProductSet* product_set_avx512();
const ProductSet* product_set_avx_vnni();
const ProductSet* product_set_avx2();
const ProductSet* product_set_neon_i8mm();
const ProductSet* product_set_neon_dotprod();

namespace {

const ProductSet* choose() {
  const std::vector<const ProductSet*> sets = product_sets();
  const char* wanted = std::getenv("CLLM_PRODUCTS");
  if (wanted != nullptr && std::strcmp(wanted, "off") == 0) return nullptr;
  const auto named = std::find_if(sets.begin(), sets.end(), [&](const ProductSet* set) {
    return wanted != nullptr && std::strcmp(set->name, wanted) == 0;
  });
  if (named != sets.end()) return *named;
  return sets.empty() ? nullptr : sets.front();
}

}  // namespace

std::vector<const ProductSet*> product_sets() {
  std::vector<const ProductSet*> sets;
  for (const ProductSet* set : {product_set_avx512(), product_set_avx_vnni(), product_set_avx2(),
                                product_set_neon_i8mm(), product_set_neon_dotprod()}) {
    if (set != nullptr && set->runs_here()) sets.push_back(set);
  }
  return sets;
}

const ProductSet* product_set() {
  static const ProductSet* const chosen = choose();
  return chosen;
}

int64_t attention_scratch(int64_t cells, int64_t size) {
  return kAttentionRows * cells + cells + kAttentionLanes + kAttentionLanes * size;
}

}  // namespace cllm
