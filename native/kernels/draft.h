#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace cllm {

/// Where the tokens of a draft come from that no Jacobi iteration has guessed yet: the first block, and the last slots
/// after an advance. Random tokens of the prompt, as in the CLLM paper (arXiv 2403.00835, section 3.2 and its released
/// code). A pure function of (seed, position), so that what a lane drafts does not depend on other lanes, nor on where
/// it is computed.
CLLM_HOST_DEVICE inline Token random_prompt_token(const Token* prompt, int64_t prompt_size, uint64_t seed,
                                                  int64_t position) {
  // splitmix64: one well-mixed draw per (seed, position), no state to carry.
  uint64_t z = seed * 0x9E3779B97F4A7C15ull + static_cast<uint64_t>(position) + 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z ^= z >> 31;
  return prompt[z % static_cast<uint64_t>(prompt_size)];
}

/// The seed of candidate c's drafts, c >= 1, of a lane with `seed`.
CLLM_HOST_DEVICE inline uint64_t candidate_seed(uint64_t seed, int32_t candidate) {
  return seed ^ (0xD6E8FEB86659FD93ull * static_cast<uint64_t>(candidate));
}

}  // namespace cllm
