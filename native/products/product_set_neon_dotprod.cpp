// The products for NEON with dot products. See product_set.h.
#include "products/cpu.h"
#include "products/product_set.h"

#if defined(__ARM_FEATURE_DOTPROD)
#include "products/vector_neon.h"
#include "products/vector_set.h"

namespace cllm {

const ProductSet* product_set_neon_dotprod() {
  static constexpr ProductSet set = vector_set("neon-dotprod", has_neon_dotprod);
  return &set;
}

}  // namespace cllm

#else

namespace cllm {

const ProductSet* product_set_neon_dotprod() { return nullptr; }

}  // namespace cllm

#endif
