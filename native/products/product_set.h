#pragma once

#include <cstdint>
#include <vector>

#include "products/attention.h"
#include "products/half_product.h"
#include "products/quantized_product.h"

namespace cllm {

/// The products and the attention for one instruction set. Every set is in every binary that its compiler can make it
/// for, and the best one that the CPU has is chosen when the process starts: so a binary for AVX2 uses AVX-VNNI or
/// AVX-512 where there is one. All sets add up in the same order, so their results are equal to the bit.
struct ProductSet {
  const char* name;
  bool (*runs_here)();  // whether the CPU and the system can run it
  RoundToBlocks* round_to_blocks;
  QuantizedProduct* quantized_product;
  HalfProduct* half_product;
  Attend* attend;
};

/// The set that products and attention use; null where the CPU has none. The environment variable CLLM_PRODUCTS names a
/// set, to which it is then limited if the CPU runs it, or is "off". Chosen once per process.
const ProductSet* product_set();

/// The sets that this CPU runs, best first.
std::vector<const ProductSet*> product_sets();

}  // namespace cllm
