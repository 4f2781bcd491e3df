// The products for AVX2 with AVX-VNNI. See product_set.h.
#include "products/cpu.h"
#include "products/product_set.h"

#if defined(__AVXVNNI__)
#define CLLM_VNNI 1
#include "products/vector_avx2.h"
//
#include "products/attention_kernel.h"
#include "products/half_kernel.h"
#include "products/quantized_kernel.h"

namespace cllm {

const ProductSet* product_set_avx_vnni() {
  static constexpr ProductSet set = {"avx-vnni",         has_avx_vnni,    round_columns,
                                     multiply_quantized, multiply_halves, attend_rows};
  return &set;
}

}  // namespace cllm

#else

namespace cllm {

const ProductSet* product_set_avx_vnni() { return nullptr; }

}  // namespace cllm

#endif
