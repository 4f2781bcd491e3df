// The products for NEON with dot products. See product_set.h.
#include "products/cpu.h"
#include "products/product_set.h"

#if defined(__ARM_FEATURE_DOTPROD)
#include "products/vector_neon.h"
//
#include "products/attention_kernel.h"
#include "products/half_kernel.h"
#include "products/quantized_kernel.h"

namespace cllm {

const ProductSet* product_set_neon_dotprod() {
  static constexpr ProductSet set = {"neon-dotprod",     has_neon_dotprod, round_columns,
                                     multiply_quantized, multiply_halves,  attend_rows};
  return &set;
}

}  // namespace cllm

#else

namespace cllm {

const ProductSet* product_set_neon_dotprod() { return nullptr; }

}  // namespace cllm

#endif
