#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace cllm {

/// How many leading tokens of one draft the model itself would have chosen.
///
/// block [n]: block[0] is confirmed, block[1..n-1] the draft. choices [n]: choices[j] is the model's choice after
/// block[j]. Returns m, 0 <= m <= n - 1, the number of leading j with block[j + 1] == choices[j]. The tokens
/// choices[0..m] are then exactly those that ordinary decoding would have produced (CLLM, arXiv 2403.00835,
/// section 3.1).
int count_accepted(const Token* block, const Token* choices, int n);

/// The stop rule: how many of choices[0 .. accepted] are emitted. Tokens are emitted through the first
/// end-of-generation token, at least 1 and at most `budget` (>= 1). end_of_generation [vocab] is non-zero for such
/// tokens; null means that no token ends a lane.
int count_emitted(const Token* choices, int accepted, int64_t budget, const uint8_t* end_of_generation);

/// Number of stationary tokens among the accepted drafts block[1..count]. A token is stationary if it already stood at
/// its position in the iteration before, when a token in front of it was still wrong, and stayed (CLLM, section 3.3).
int count_stationary(const uint8_t* stood, int count);

/// `verify`: decides for all lanes of a pass which candidate wins and how many of its tokens are accepted and emitted.
///
/// A lane that does not run (lane_runs) gets a verdict that holds only its position. Where a candidate other than the
/// lane's own block wins, a token counts as stationary only if the own block held it too.
struct VerifyArgs {
  PassShape shape;
  const Token* tokens = nullptr;   // [B, C, n], input of the pass; tokens[b, c, 0] is the same for all c
  const Token* choices = nullptr;  // [B, C, n], the choices of `choose` for its logits
  const uint8_t* stood = nullptr;  // [B, n], for candidate 0: 1 where the draft token stood there one iteration before
  const uint8_t* end_of_generation = nullptr;  // [vocab], non-zero for such tokens
  const LaneState* lanes = nullptr;            // [B]
  Verdict* verdicts = nullptr;                 // [B] out
};

/// CPU implementation.
void verify(const VerifyArgs& args);

}  // namespace cllm
