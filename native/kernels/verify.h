#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace cllm {

/// Of one lane: how many leading draft tokens the model itself would have chosen.
///
/// block [n]: block[0] is confirmed, block[1..n-1] the draft. choices [n]: choices[j] is the model's choice after
/// block[j]. Returns m, 0 <= m <= n - 1, the number of leading j with block[j + 1] == choices[j]. The tokens
/// choices[0..m] are then exactly those that ordinary decoding would have produced (CLLM, arXiv 2403.00835,
/// section 3.1).
int count_accepted(const Token* block, const Token* choices, int n);

/// The stop rule: how many of choices[0 .. accepted] are emitted, at least 1. Through the first end-of-generation
/// token, and at most `budget` (>= 1). end_of_generation [vocab]: non-zero for such tokens; null where none ends a
/// lane.
int count_emitted(const Token* choices, int accepted, int64_t budget, const uint8_t* end_of_generation);

/// Stationary tokens among the accepted drafts block[1..count]: those that already stood at their position in the
/// iteration before, when a token in front of them was still wrong, and stayed (CLLM, section 3.3).
int count_stationary(const uint8_t* stood, int count);

/// `verify` for all lanes of a pass: which candidate wins, how much of it is accepted and emitted.
///
/// A lane that does not run (lane_runs) gets an empty verdict. Where a candidate other than the lane's own block wins,
/// a token counts as stationary only if the own block held it too.
struct VerifyArgs {
  PassShape shape;
  const Token* tokens = nullptr;   // [B, C, n], the pass's input; tokens[b, c, 0] is the same for all c
  const Token* choices = nullptr;  // [B, C, n], what `choose` made of its logits
  const uint8_t* stood = nullptr;  // [B, n], of candidate 0: 1 where the draft token stood there one iteration before
  const uint8_t* end_of_generation = nullptr;  // [vocab], non-zero for such tokens
  const LaneState* lanes = nullptr;            // [B]
  Verdict* verdicts = nullptr;                 // [B] out
};

/// On the CPU.
void verify(const VerifyArgs& args);

}  // namespace cllm
