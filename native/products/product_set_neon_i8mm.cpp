// The products for NEON with i8mm. See product_set.h.
#include "products/cpu.h"
#include "products/product_set.h"

#if defined(__ARM_FEATURE_MATMUL_INT8)
#include "products/vector_neon.h"
//
#include "products/attention_kernel.h"
#include "products/half_kernel.h"
#include "products/quantized_kernel.h"

namespace cllm {

const ProductSet* product_set_neon_i8mm() {
  static constexpr ProductSet set = {"neon-i8mm",        has_neon_i8mm,   round_columns,
                                     multiply_quantized, multiply_halves, attend_rows};
  return &set;
}

}  // namespace cllm

#else

namespace cllm {

const ProductSet* product_set_neon_i8mm() { return nullptr; }

}  // namespace cllm

#endif
