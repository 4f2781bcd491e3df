// The products for NEON with i8mm. See product_set.h.
#include "products/cpu.h"
#include "products/product_set.h"

#if defined(__ARM_FEATURE_MATMUL_INT8)
#include "products/vector_neon.h"
#include "products/vector_set.h"

namespace cllm {

const ProductSet* product_set_neon_i8mm() {
  static constexpr ProductSet set = vector_set("neon-i8mm", has_neon_i8mm);
  return &set;
}

}  // namespace cllm

#else

namespace cllm {

const ProductSet* product_set_neon_i8mm() { return nullptr; }

}  // namespace cllm

#endif
