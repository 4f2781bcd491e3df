#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace cllm {

/// `verify` for one lane: how many leading draft tokens the model itself would have chosen.
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

/// The next draft by Jacobi iteration, and which of its tokens have stood still.
///
/// `emitted` (1 <= emitted <= m + 1) tokens of this iteration were emitted, so the next block begins with
/// choices[emitted - 1]. Writes draft[0 .. kept) = choices[emitted .. n-1]. `stood` [n] is indexed like the next block
/// (stood[0] unused): 1 where the absolute position held this very token in this iteration's block already, else 0.
/// Returns kept = n - emitted; what lies behind is for the draft source to fill.
int advance_draft(const Token* block, const Token* choices, int n, int emitted, Token* draft, uint8_t* stood);

/// Stationary tokens among the accepted drafts block[1..count]: those that already stood at their position in the
/// iteration before, when a token in front of them was still wrong, and stayed (CLLM, section 3.3).
int count_stationary(const uint8_t* stood, int count);

}  // namespace cllm
