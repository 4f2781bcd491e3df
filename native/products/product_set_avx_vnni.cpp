// The products for AVX2 with AVX-VNNI. See product_set.h.
#include "products/cpu.h"
#include "products/product_set.h"

#if defined(__AVXVNNI__)
#define CLLM_VNNI 1
#include "products/vector_avx2.h"
#include "products/vector_set.h"

namespace cllm {

const ProductSet* product_set_avx_vnni() {
  static constexpr ProductSet set = vector_set("avx-vnni", has_avx_vnni);
  return &set;
}

}  // namespace cllm

#else

namespace cllm {

const ProductSet* product_set_avx_vnni() { return nullptr; }

}  // namespace cllm

#endif
