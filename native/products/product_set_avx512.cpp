// The products for AVX-512 with VNNI. See product_set.h.
#include "products/cpu.h"
#include "products/product_set.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "products/vector_avx512.h"
#include "products/vector_set.h"

namespace cllm {

const ProductSet* product_set_avx512() {
  static constexpr ProductSet set = vector_set("avx512", has_avx512_vnni);
  return &set;
}

}  // namespace cllm

#else

namespace cllm {

const ProductSet* product_set_avx512() { return nullptr; }

}  // namespace cllm

#endif
