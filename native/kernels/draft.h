#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace cllm {

/// What a draft is made of. A lane's choices are the tokens that the last iteration chose for later positions (Jacobi
/// iteration). The rest of a draft is a pure function of the lane's tokens and its seed, so a lane's drafts depend
/// neither on other lanes nor on where they are computed.
enum DraftMode : int32_t {
  /// The lane's choices, then random tokens of the prompt: CLLM (arXiv 2403.00835), section 3.2 and its released code.
  kDraftRandom = 0,
  /// The lane's choices, then what followed the last tokens at an earlier place, else random tokens of the prompt.
  kDraftChoices = 1,
  /// What followed the last confirmed tokens at an earlier place, in prompt or answer (prompt lookup), instead of the
  /// lane's choices. At least the last token must have stood there; elsewhere it is kDraftChoices.
  kDraftLookup = 2,
  /// kDraftLookup where at least the last two, or three, tokens stood at the earlier place.
  kDraftLookup2 = 3,
  kDraftLookup3 = 4,
};

/// Tokens that must have stood at an earlier place for what followed them to replace the lane's choices.
CLLM_HOST_DEVICE inline int32_t min_key_length(DraftMode mode) {
  return mode < kDraftLookup ? kMaxKeyLength + 1 : mode - kDraftLookup + 1;
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

/// The first draft tokens of a lane's candidates so far, [count].
struct FirstTokens {
  const Token* tokens;
  int32_t count;

  CLLM_HOST_DEVICE bool has(Token token) const {
    for (int32_t i = 0; i < count; i++) {
      if (tokens[i] == token) return true;
    }
    return false;
  }
};

/// The latest place whose `length` tokens in front are the view's last ones, and whose own token is not in `taken`; 0
/// where there is none among the kMaxPlaces latest ones of the key's bucket.
CLLM_HOST_DEVICE inline int64_t find_place(const DraftView& view, const PlaceIndex& index, int32_t length,
                                           const FirstTokens& taken) {
  if (length > view.end()) return 0;
  Key key;
  for (int32_t i = 0; i < kMaxKeyLength; i++) {
    if (i < length) key.tokens[i] = view.at(view.end() - 1 - i);
  }
  int64_t place = index.latest[index.bucket(length, key)];
  for (int32_t seen = 0; place > 0 && seen < kMaxPlaces; seen++) {
    const Key other = key_before(view.tokens, place, length);
    bool same = true;
    for (int32_t i = 0; i < kMaxKeyLength; i++) same = same && (i >= length || other.tokens[i] == key.tokens[i]);
    if (same && !taken.has(view.tokens[place])) return place;
    place = index.before(place, length);
  }
  return 0;
}

/// A place from which the lane's text may be continued: the one with the longest key, and the latest among equals.
struct Continuation {
  int64_t place = 0;   // tokens[place] followed the key
  int32_t length = 0;  // tokens of the key; 0: there is no such place
};

/// The token that is drafted for slot `slot` > view.drafted: what followed the place. Behind the view's end it repeats
/// what it has drafted itself, so what lies between the place and the end comes again and again.
CLLM_HOST_DEVICE inline Token continued(const DraftView& view, const Continuation& from, int32_t slot) {
  const auto period = static_cast<int32_t>(view.end() - from.place);
  return view.at(from.place + (slot - view.drafted - 1) % period);
}

/// The best place whose token is not in `taken`, as find_place() finds it. On the CPU.
Continuation find_continuation(const DraftView& view, const PlaceIndex& index, const FirstTokens& taken = {nullptr, 0});

/// Completes one lane's draft block[1 .. n-1], of which block[1 .. kept] are the lane's choices already. `index` holds
/// the places of tokens [size]; prompt_size and seed are those of LaneState. On the CPU.
void complete_draft(const Token* tokens, int64_t size, const PlaceIndex& index, int64_t prompt_size, uint64_t seed,
                    DraftMode mode, int32_t kept, int32_t n, Token* block);

/// Writes one lane's candidates 1 .. candidates - 1 into blocks [candidates, n]; blocks[0] holds the last confirmed
/// token. Each candidate is what followed the lane's last tokens at the best place, in the order of Continuation, whose
/// next token no candidate before it begins with; where there is no such place, it is random tokens of the prompt. So
/// candidate 1 is what kDraftLookup would draft. On the CPU.
void draft_candidates(const Token* tokens, int64_t size, const PlaceIndex& index, int64_t prompt_size, uint64_t seed,
                      int32_t candidates, int32_t n, Token* blocks);

/// Marks the tokens of the next block that stood at their position in this iteration's block already. `before` [n] is
/// this iteration's block, `emitted` the number of tokens it emitted, `block` [n_next] the next block. stood [n_next],
/// stood[0] = 0. On the CPU.
void mark_stood(const Token* before, int32_t n, int32_t emitted, const Token* block, int32_t n_next, uint8_t* stood);

}  // namespace cllm
