#pragma once

#include <cstdint>

#include "kernels/sampling.h"
#include "kernels/types.h"

namespace cllm {

/// `choose`: the model's choice for each row of logits. These rules of greedy choice hold for every implementation; the
/// rules of sampling are documented at Sampling.
///
/// - The largest logit wins. Ties go to the LOWEST token id, as in llama_sampler_greedy_apply; ggml's own CPU argmax
///   takes the highest id, and its CUDA argmax takes neither reliably.
/// - -0 equals +0.
/// - NaN ranks below everything, even -inf. A row of only NaN gives token 0. A token id is never negative.
///
/// A row without a logit above -inf is chosen greedily even where sampling is on.
struct ChooseArgs {
  const float* logits = nullptr;  // [rows, vocab] f32, row r begins at logits + r * stride
  int64_t rows = 0;
  int64_t vocab = 0;         // 1 <= vocab < 2^31; for sampling with top-p vocab <= 2^23
  int64_t stride = 0;        // >= vocab, in elements
  Token* choices = nullptr;  // [rows] out
  /// [rows / rows_per_lane], or null where all lanes are greedy. Row r belongs to lane r / rows_per_lane.
  const Sampling* sampling = nullptr;
  int64_t rows_per_lane = 1;
  /// [rows / rows_per_lane]. Only the position p of each is read; the choice of row r takes position p + 1 + r % block.
  const LaneState* lanes = nullptr;
  int32_t block = 1;
};

/// CPU implementation.
void choose(const ChooseArgs& args);

/// Samples one row on the CPU. `first` is the row's greedy choice; sampling.temperature > 0.
Token sample_row(const float* logits, int64_t vocab, const Sampling& sampling, int64_t position, Token first);

/// `bias`: adds a lane's biases to all its rows of logits, in place, before `choose`. A bias of -inf bans a token.
struct BiasArgs {
  float* logits = nullptr;  // [rows, vocab] in, out
  int64_t rows = 0;
  int64_t vocab = 0;
  int64_t stride = 0;
  int64_t rows_per_lane = 1;
  const float* const* biases = nullptr;  // [rows / rows_per_lane] of [vocab], or null where a lane has none
};

/// CPU implementation.
void bias(const BiasArgs& args);

}  // namespace cllm
