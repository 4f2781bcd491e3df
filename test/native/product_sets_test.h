#pragma once

#include <vector>

#include "products/product_set.h"

/// The sets of products that this CPU runs, and "avx-vnni" in the encoding of AVX-512 where the CPU has that.
std::vector<const cllm::ProductSet*> tested_sets();
