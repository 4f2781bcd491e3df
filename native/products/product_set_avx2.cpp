// The products for x86-64-v3: AVX2, FMA, F16C. See product_set.h.
#include "products/cpu.h"
#include "products/product_set.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "products/vector_avx2.h"
#include "products/vector_set.h"

namespace cllm {

const ProductSet* product_set_avx2() {
  static constexpr ProductSet set = vector_set("avx2", has_avx2);
  return &set;
}

}  // namespace cllm

#else

namespace cllm {

const ProductSet* product_set_avx2() { return nullptr; }

}  // namespace cllm

#endif
