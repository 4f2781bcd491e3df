#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace cllm {

/// What stands in a draft beside the choices that the last iteration made for later positions (its own choices, Jacobi
/// iteration). All of it but kDraftRecycled is a pure function of the lane's tokens and its seed, so that what a lane
/// drafts does not depend on other lanes, nor on where it is computed.
enum DraftMode : int32_t {
  /// Own choices, then random tokens of the prompt: CLLM (arXiv 2403.00835), section 3.2 and its released code.
  kDraftRandom = 0,
  /// Own choices, then what followed the last tokens where they stood before, else random tokens of the prompt.
  kDraftFill = 1,
  /// What followed the last confirmed tokens where at least one of them stood before (prompt lookup, over prompt and
  /// answer alike), instead of own choices; elsewhere as kDraftFill.
  kDraftLookup = 2,
  /// The same where at least two, or three, of them stood before.
  kDraftLookup2 = 3,
  kDraftLookup3 = 4,
  /// As kDraftLookup, in rejected tails too. They are in no device's memory: a lane's own (Lane::block), not for
  /// complete_draft.
  kDraftRecycled = 5,
};

constexpr int32_t kLongestKey = 3;  // tokens that are looked up

/// Tokens that must have stood before for what followed them to be drafted instead of own choices.
CLLM_HOST_DEVICE inline int32_t least_key(DraftMode mode) {
  return mode < kDraftLookup ? kLongestKey + 1 : mode - kDraftLookup + 1;
}

/// A random token of the prompt for a position that nobody has guessed yet.
CLLM_HOST_DEVICE inline Token random_prompt_token(const Token* prompt, int64_t prompt_size, uint64_t seed,
                                                  int64_t position) {
  // splitmix64: one well-mixed draw per (seed, position), no state to carry.
  uint64_t z = seed * 0x9E3779B97F4A7C15ull + static_cast<uint64_t>(position) + 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z ^= z >> 31;
  return prompt[z % static_cast<uint64_t>(prompt_size)];
}

/// The seed of candidate c's random drafts, c >= 1, of a lane with `seed`.
CLLM_HOST_DEVICE inline uint64_t candidate_seed(uint64_t seed, int32_t candidate) {
  return seed ^ (0xD6E8FEB86659FD93ull * static_cast<uint64_t>(candidate));
}

/// A lane's tokens with the first `drafted` tokens of its next draft behind them. tokens [size], block [n] with
/// block[0] = tokens[size - 1] and block[1 .. drafted] the draft.
struct DraftView {
  const Token* tokens = nullptr;
  int64_t size = 0;  // >= 1
  const Token* block = nullptr;
  int32_t drafted = 0;

  CLLM_HOST_DEVICE Token at(int64_t i) const { return i < size ? tokens[i] : block[i - size + 1]; }
  CLLM_HOST_DEVICE int64_t end() const { return size + drafted; }
};

/// How many of the view's last tokens, at most kLongestKey, stand right before tokens[place], 1 <= place < size.
CLLM_HOST_DEVICE inline int32_t key_before(const DraftView& view, int64_t place) {
  int32_t length = 0;
  while (length < kLongestKey && length < place &&
         view.tokens[place - 1 - length] == view.at(view.end() - 1 - length)) {
    length++;
  }
  return length;
}

constexpr int32_t kMostCandidates = 8;

/// The tokens that a lane's candidates begin with already, [count].
struct Begun {
  const Token* tokens;
  int32_t count;

  CLLM_HOST_DEVICE bool has(Token token) const {
    for (int32_t i = 0; i < count; i++) {
      if (tokens[i] == token) return true;
    }
    return false;
  }
};

/// A place where the lane's text may go on as it did before: the one with the longest key, and of those the latest.
struct Continuation {
  int64_t place = 0;   // tokens[place] is what came then
  int32_t length = 0;  // of the key; 0: there is no such place
};

/// The token that is drafted for slot `slot` > view.drafted: the continuation goes on into the draft itself.
CLLM_HOST_DEVICE inline Token continued(const DraftView& view, const Continuation& from, int32_t slot) {
  return view.at(from.place + slot - view.drafted - 1);
}

/// Of the places that go on with a token that is not in `begun`. On the CPU.
Continuation find_continuation(const DraftView& view, const Begun& begun = {nullptr, 0});

/// Of one lane: the draft block[1 .. n-1], of which block[1 .. kept] are own choices already. prompt_size, seed:
/// LaneState's. On the CPU.
void complete_draft(const Token* tokens, int64_t size, int64_t prompt_size, uint64_t seed, DraftMode mode, int32_t kept,
                    int32_t n, Token* block);

/// Of one lane: the candidates 1 .. candidates - 1 of blocks [candidates, n], of which only blocks[0] need hold
/// anything, the last confirmed token. Each goes on as the lane's text did at the best place, by the order of
/// Continuation, that goes on with another token than the candidates before it; where there is none, random tokens of
/// the prompt. So candidate 1 is what kDraftLookup would draft. On the CPU.
void draft_candidates(const Token* tokens, int64_t size, int64_t prompt_size, uint64_t seed, int32_t candidates,
                      int32_t n, Token* blocks);

/// Which tokens of the next block stood at their position in this iteration's block already: `before` [n] is that
/// block, `emitted` how many tokens the iteration emitted, `block` [n_next] the next one. stood [n_next], stood[0] = 0.
/// On the CPU.
void mark_stood(const Token* before, int32_t n, int32_t emitted, const Token* block, int32_t n_next, uint8_t* stood);

}  // namespace cllm
