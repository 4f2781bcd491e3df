#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace cllm {

/// How a lane's tokens are chosen; temperature 0 is greedy. Planned: no implementation reads it yet.
struct Sampling {
  float temperature = 0;
  int32_t top_k = 0;  // 0: off
  float top_p = 1;    // 1: off
  float min_p = 0;    // 0: off
  uint64_t seed = 0;
};

/// `choose`: the model's choice for each row of logits. The rules, stated once for every implementation:
///
/// - the largest logit wins; ties go to the LOWEST token id (llama_sampler_greedy_apply's rule; ggml's own CPU argmax
///   takes the highest and its CUDA argmax neither reliably);
/// - -0 equals +0;
/// - NaN ranks below everything, -inf included; a row of nothing but NaN gives token 0. A token id is never negative.
struct ChooseArgs {
  const float* logits = nullptr;  // [rows, vocab] f32, row r begins at logits + r * stride
  int64_t rows = 0;
  int64_t vocab = 0;         // 1 <= vocab < 2^31
  int64_t stride = 0;        // >= vocab, in elements
  Token* choices = nullptr;  // [rows] out
  /// [rows / rows_per_lane], or null: all greedy. Anything but null is refused until sampling is implemented.
  const Sampling* sampling = nullptr;
  int64_t rows_per_lane = 0;
  const int32_t* positions = nullptr;  // [rows], of the row's block token; the choice is for position + 1
};

/// On the CPU. `sampling` must be null.
void choose(const ChooseArgs& args);

}  // namespace cllm
