#pragma once

// Included in front of ggml-cpu.c. From 8 columns on ggml multiplies weights of the IQ formats by a kernel of its own
// (ggml-cpu/iqp.h), whose sums have another order than those of fewer columns. Then a token's results would depend on
// the size of its block. Without that kernel they do not, and longer passes cost more per token.

#include <stdbool.h>

struct ggml_tensor;

static inline bool cllm_has_iq_panels(const struct ggml_tensor* product) {
  (void)product;
  return false;
}

#define ggml_cpu_iqp_supports_mul_mat cllm_has_iq_panels
#define ggml_cpu_iqp_supports_mul_mat_id cllm_has_iq_panels
