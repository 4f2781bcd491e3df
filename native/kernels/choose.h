#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace cllm {

/// `choose`: the model's choice for each row of logits. The rules, stated once for every implementation:
///
/// - the largest logit wins; ties go to the LOWEST token id (llama_sampler_greedy_apply's rule; ggml's own CPU argmax
///   takes the highest and its CUDA argmax neither reliably);
/// - -0 equals +0;
/// - NaN ranks below everything, -inf included; a row of nothing but NaN gives token 0. A token id is never negative.
///
/// logits [rows, vocab] f32, row r begins at logits + r * stride (stride >= vocab, in elements); tokens [rows] out.
void choose_greedy(const float* logits, int64_t rows, int64_t vocab, int64_t stride, Token* tokens);

}  // namespace cllm
