#pragma once

#include "ggml.h"

namespace cllm {

/// x [a, b, c, d] (rows contiguous, other strides free) -> [b, a, c, d] contiguous, F32 or BF16 (rounded to nearest
/// even). It is a custom ggml operation for the CPU backend: ggml's own copy of a transposed view goes element by
/// element and took a third of a training step.
ggml_tensor* transpose_on_cpu(ggml_context* ctx, ggml_tensor* x, ggml_type type);

}  // namespace cllm
