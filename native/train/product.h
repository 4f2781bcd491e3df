#pragma once

#include "ggml.h"

namespace cllm {

// The BF16 products of native/products/bf16_product.h as custom ggml operations. ggml's own kernel adds up along the
// inner dimension inside a register, and then needs a horizontal sum for every output: with the short inner dimensions
// of training (one head, one row of tokens) these sums take half of the kernel's time.

/// Whether this binary has the kernel. It is compiled for CPUs with AVX-512 BF16.
bool has_product();
/// Whether product() takes operands of these shapes.
bool product_takes(const ggml_tensor* a, const ggml_tensor* b);
/// As ggml_mul_mat: a [k, m, a2, a3], b [k, n, b2, b3] -> [m, n, b2, b3] F32, a repeated over the heads of b. Both are
/// BF16 with contiguous rows; k is even, m a multiple of 16.
ggml_tensor* product(ggml_context* ctx, ggml_tensor* a, ggml_tensor* b);
/// x (F32, rows contiguous, other strides free) -> BF16, contiguous, rounded to nearest even.
ggml_tensor* to_bf16(ggml_context* ctx, ggml_tensor* x);

}  // namespace cllm
