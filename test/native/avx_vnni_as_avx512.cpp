// The set "avx-vnni" in the encoding of AVX-512: the same kernels and the same instruction, on CPUs that have only the
// other encoding. So its arithmetic is tested on more machines.
#include "products/cpu.h"
#include "products/product_set.h"

#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define CLLM_VNNI 1
#include "products/vector_avx2.h"
#include "products/vector_set.h"

const cllm::ProductSet* avx_vnni_as_avx512() {
  static constexpr cllm::ProductSet set = cllm::vector_set("avx-vnni as avx512", cllm::has_avx512_vnni);
  return &set;
}

#else

const cllm::ProductSet* avx_vnni_as_avx512() { return nullptr; }

#endif
