#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "decode/draft_odds.h"
#include "kernels/draft.h"
#include "kernels/place_index.h"
#include "kernels/types.h"

namespace cllm {

// A lane appears as these types, each in the file that uses it:
//
//   Lane        its tokens, draft and count of written KV rows (here)
//   ServedLane  the lane and the requests that it serves (served_lane.h)
//   LaneWork    what a runner is asked to do with it, and LaneOutcome, what an iteration did (iteration_runner.h)
//   LaneTokens  the tokens that it contributes to a forward pass (context.h)
//   DeviceLane  what the host knows of the lane on the device (device_lanes.h)
//   LaneState   the lane's state in device memory (kernels/types.h)
//
// A LaneGroup (device_lanes.h) is a row of consecutive lanes that share a graph.

/// What one Jacobi iteration did to a lane.
struct Iteration {
  int position = 0;            // position of block[0]
  std::vector<Token> block;    // [n]
  std::vector<Token> choices;  // [n]
  int candidates = 1;          // blocks that were verified; `block` is the one that won
  int accepted = 0;            // m
  int emitted = 0;             // choices[0 .. emitted) were emitted, 1 <= emitted <= m + 1
  int stationary = 0;          // stationary tokens among the emitted drafts block[1 .. emitted)
};

/// One sequence being decoded: its confirmed tokens, its draft, and how far its KV rows are written.
///
/// Invariants: the rows of tokens[0 .. written) are in the cache and right; the last token is never written before an
/// iteration (it is x[0] of the next block, docs/architecture.md), so an iteration needs written == tokens.size() - 1.
class Lane {
 public:
  /// `context_size`: about how many tokens the lane may hold.
  explicit Lane(int context_size = 1024);

  const std::vector<Token>& tokens() const { return tokens_; }
  /// The places of tokens().
  const PlaceIndex& index() const { return index_.view(); }
  int written() const { return written_; }
  /// The position of x[0], the last confirmed token.
  int position() const { return static_cast<int>(tokens_.size()) - 1; }
  /// Random drafts are drawn from the first prompt_size() tokens, at least one where there are tokens.
  int prompt_size() const { return prompt_size_; }
  /// Grows with every change of tokens or draft, but not with block(), which only derives its result from them.
  uint64_t revision() const { return revision_; }
  bool needs_prefill() const { return written_ < position(); }
  /// The tokens whose rows the next prefill pass writes, at most `chunk`.
  std::span<const Token> prefill_tokens(int chunk) const;
  void prefilled(int count) {
    written_ += count;
    revision_++;
  }

  /// Makes the lane hold exactly `tokens`; returns how many of its written rows are kept (the longest common prefix).
  int assign(std::vector<Token> tokens);
  /// Keeps the first `position` tokens. The draft is dropped.
  void rollback(int position);
  /// Tells the lane that the cache has lost its rows from `rows` on.
  void lost_rows(int rows);

  /// The next block of n tokens: the last confirmed token and the draft, completed by the rule of `mode`.
  std::span<const Token> block(int n, uint64_t seed, DraftMode mode);
  /// Sets a draft that no mode replaces.
  void set_draft(std::span<const Token> draft);
  /// The mode that drafts better in blocks of n: kDraftLookup where a key of one token has had more tokens accepted
  /// than the lane's choices, else kDraftLookup2 or 3 where longer keys have, else kDraftChoices.
  DraftMode better_mode(int n) const;
  /// The tokens that the next iteration emits on average with `candidates` blocks of n: one block, by the better mode,
  /// or 2, 4, 8 as far as watch_candidates() allows.
  double expected(int n, int candidates = 1) const;
  /// A consistency LLM's choices for later positions are good drafts; those of other models hardly ever are.
  void expect_consistency(bool consistency_model) {
    choice_odds_ = DraftOdds(choice_prior_ = consistency_model ? kConsistencyPrior : kChoicePrior);
  }
  /// Makes the lane learn what up to `max_candidates` candidates together are worth, whether they are verified or not.
  void watch_candidates(int max_candidates) {
    candidate_odds_.clear();
    for (int count = 2; count <= max_candidates; count *= 2) candidate_odds_[count] = {};
  }
  /// [n] of the last block(): 1 where the draft token stood at its position in the iteration before.
  const std::vector<uint8_t>& stood() const { return stood_; }
  /// Replaces the block by that of another candidate, which won. Tokens that both blocks hold keep their marks in
  /// stood().
  void take_candidate(std::span<const Token> block);
  /// Verifies the block against the model's choices [n], emits by the stop rule (count_emitted) and rolls the block
  /// forward. The result is valid until the next call.
  const Iteration& advance(std::span<const Token> choices, int64_t budget, const uint8_t* end_of_generation);

 private:
  void index_text(const std::vector<Token>& before);
  void forget_draft();
  void observe(std::span<const Token> emitted);
  void watch_lookups();
  void learn_from_watched();

  std::vector<Token> tokens_;
  int32_t max_index_bits_;
  TextIndex index_;  // of tokens_
  int written_ = 0;
  int prompt_size_ = 0;
  std::vector<Token> choices_;  // the last iteration's choices for later positions, or the draft of set_draft()
  bool draft_is_set_ = false;   // choices_ is the draft of set_draft()
  std::vector<Token> block_;    // result of the last block()
  std::vector<uint8_t> stood_;  // [block], see stood()
  int shift_ = 0;  // positions by which the block has moved since last_; 0: the draft does not come from last_
  uint64_t revision_ = 0;
  Iteration last_;

  // Probabilities that a draft's first token is right, assumed until drafts have been seen; for lookups one for each
  // length of key.
  static constexpr float kChoicePrior = 0.2f, kConsistencyPrior = 0.85f;
  static constexpr float kLookupPriors[kMaxKeyLength] = {0.15f, 0.45f, 0.7f};
  using OddsByKey = std::array<DraftOdds, kMaxKeyLength>;
  float choice_prior_ = kChoicePrior;
  DraftOdds choice_odds_{kChoicePrior};
  OddsByKey lookup_odds_;                    // set by assign()
  std::map<int, OddsByKey> candidate_odds_;  // odds of the best of 2, 4, 8 candidates, as far as allowed
  int drafted_choices_ = 0;                  // how many of choices_ are in the last block()
  int key_length_ = 0;  // tokens of the longest key that stood at an earlier place; 0: nothing to look up

  /// A draft that the lane could have had, and how far it came true.
  struct WatchedDraft {
    std::vector<Token> tokens;
    size_t right = 0;
    bool wrong = false;

    bool settled() const { return wrong || right == tokens.size(); }
  };
  // [0] holds the lane's choices (nothing where there are no candidates), the rest what was looked up, in the order of
  // candidates. They are watched whether they were drafted or not.
  std::vector<WatchedDraft> watched_;
  int watched_key_length_ = 0;
};

}  // namespace cllm
