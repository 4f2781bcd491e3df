#include "kernels/draft.h"

#include "base/limits.h"

namespace cllm {

Continuation find_continuation(const DraftView& view, const PlaceIndex& index, const FirstTokens& taken) {
  for (int32_t length = kMaxKeyLength; length > 0; length--) {
    const int64_t place = find_place(view, index, length, taken);
    if (place > 0) return {place, length};
  }
  return {};
}

void complete_draft(const Token* tokens, int64_t size, const PlaceIndex& index, int64_t prompt_size, uint64_t seed,
                    DraftMode mode, int32_t kept, int32_t n, Token* block) {
  Continuation from;
  if (mode >= kDraftLookup) {
    from = find_continuation({tokens, size, block, 0}, index);
    if (from.length >= min_key_length(mode)) {
      kept = 0;
    } else {
      from = {};
    }
  }
  if (kept + 1 >= n) return;
  const DraftView view{tokens, size, block, kept};
  if (mode != kDraftRandom && from.length == 0) from = find_continuation(view, index);
  for (int32_t slot = kept + 1; slot < n; slot++) {
    block[slot] =
        from.length > 0 ? continued(view, from, slot) : random_prompt_token(tokens, prompt_size, seed, size - 1 + slot);
  }
}

void draft_candidates(const Token* tokens, int64_t size, const PlaceIndex& index, int64_t prompt_size, uint64_t seed,
                      int32_t candidates, int32_t n, Token* blocks) {
  Token first_tokens[kMaxCandidates];
  int32_t count = 0;
  for (int32_t c = 1; c < candidates; c++) {
    Token* block = blocks + static_cast<int64_t>(c) * n;
    block[0] = blocks[0];
    const DraftView view{tokens, size, block, 0};
    const Continuation from = find_continuation(view, index, {first_tokens, count});
    if (from.length > 0) first_tokens[count++] = tokens[from.place];
    for (int32_t slot = 1; slot < n; slot++) {
      block[slot] = from.length > 0
                        ? continued(view, from, slot)
                        : random_prompt_token(tokens, prompt_size, candidate_seed(seed, c), size - 1 + slot);
    }
  }
}

void mark_stood(const Token* before, int32_t n, int32_t emitted, const Token* block, int32_t n_next, uint8_t* stood) {
  for (int32_t j = 0; j < n_next; j++) {
    // Slot j is the guess for the absolute position that before[emitted + j] held until now.
    const int32_t slot = emitted + j;
    stood[j] = j > 0 && slot < n && before[slot] == block[j];
  }
}

}  // namespace cllm
