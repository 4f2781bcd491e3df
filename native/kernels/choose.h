#pragma once

#include <cstdint>

#include "kernels/sampling.h"
#include "kernels/types.h"

namespace cllm {

/// `choose`: the model's choice for each row of logits. The rules of greedy choice, stated once for every
/// implementation (those of sampling are Sampling's):
///
/// - the largest logit wins; ties go to the LOWEST token id (llama_sampler_greedy_apply's rule; ggml's own CPU argmax
///   takes the highest and its CUDA argmax neither reliably);
/// - -0 equals +0;
/// - NaN ranks below everything, -inf included; a row of nothing but NaN gives token 0. A token id is never negative.
///
/// A row with nothing above -inf is chosen greedily also where sampling is on.
struct ChooseArgs {
  const float* logits = nullptr;  // [rows, vocab] f32, row r begins at logits + r * stride
  int64_t rows = 0;
  int64_t vocab = 0;         // 1 <= vocab < 2^31; sampling with top-p: <= 2^23
  int64_t stride = 0;        // >= vocab, in elements
  Token* choices = nullptr;  // [rows] out
  /// [rows / rows_per_lane], or null: all greedy. Row r belongs to lane r / rows_per_lane.
  const Sampling* sampling = nullptr;
  int64_t rows_per_lane = 1;
  /// [rows / rows_per_lane], of each only the position p is read: the choice of row r is for p + 1 + r % block.
  const LaneState* lanes = nullptr;
  int32_t block = 1;
};

/// On the CPU.
void choose(const ChooseArgs& args);

/// On the CPU, one row: `first` is its greedy choice. sampling.temperature > 0.
Token sample_row(const float* logits, int64_t vocab, const Sampling& sampling, int64_t position, Token first);

/// `bias`: adds a lane's biases to all its rows of logits, in place, before `choose`. -inf bans a token.
struct BiasArgs {
  float* logits = nullptr;  // [rows, vocab] in, out
  int64_t rows = 0;
  int64_t vocab = 0;
  int64_t stride = 0;
  int64_t rows_per_lane = 1;
  const float* const* biases = nullptr;  // [rows / rows_per_lane] of [vocab], or null where a lane has none
};

/// On the CPU.
void bias(const BiasArgs& args);

}  // namespace cllm
