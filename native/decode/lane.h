#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "decode/draft_odds.h"
#include "kernels/draft.h"
#include "kernels/types.h"

namespace cllm {

/// What one Jacobi iteration did to a lane.
struct Iteration {
  int position = 0;            // of block[0]
  std::vector<Token> block;    // [n]
  std::vector<Token> choices;  // [n]
  int candidates = 1;          // blocks that were verified; `block` is the one that won
  int accepted = 0;            // m
  int emitted = 0;             // choices[0 .. emitted) were emitted, 1 <= emitted <= m + 1
  int stationary = 0;          // of the emitted drafts block[1 .. emitted)
};

/// One sequence being decoded: its confirmed tokens, its draft, and how far its KV rows are written.
///
/// Invariants: the rows of tokens[0 .. written) are in the cache and right; the last token is never written before an
/// iteration (it is x[0] of the next block, docs/architecture.md), so an iteration needs written == tokens.size() - 1.
class Lane {
 public:
  const std::vector<Token>& tokens() const { return tokens_; }
  int written() const { return written_; }
  /// Random drafts are drawn from the first so many tokens, at least one where there are tokens.
  int prompt_size() const { return prompt_size_; }
  /// Grows with every change of tokens or draft, but not with block(), whose result is a function of the rest.
  uint64_t revision() const { return revision_; }
  bool needs_prefill() const { return written_ + 1 < static_cast<int>(tokens_.size()); }
  /// Tokens whose rows are to be written by the next prefill pass, at most `chunk`.
  std::span<const Token> prefill_piece(int chunk) const;
  void prefilled(int count) {
    written_ += count;
    revision_++;
  }

  /// Makes the lane hold exactly `tokens`; returns how many of its written rows are kept (the longest common prefix).
  int assign(std::vector<Token> tokens);
  /// Keeps the first `position` tokens. The draft is dropped.
  void rollback(int position);
  /// The cache lost this lane's rows from `rows` on.
  void lost_rows(int rows);

  /// The next block of n tokens: the last confirmed token, and the draft, completed as `mode` says.
  std::span<const Token> block(int n, uint64_t seed, DraftMode mode);
  /// A draft that no mode replaces.
  void set_draft(std::span<const Token> draft);
  /// What drafts best in blocks of n: kDraftLookup where a key of one token has had more tokens accepted than own
  /// choices, else kDraftLookup2 or 3 where longer keys have, else kDraftFill.
  DraftMode better_mode(int n) const;
  /// What the next iteration emits on average with `candidates` blocks of n: 1, by the better mode, or 2, 4, 8, if
  /// watch_candidates() says so.
  double expected(int n, int candidates = 1) const;
  /// A consistency LLM's own choices are good drafts, those of other models hardly ever.
  void expect_own_choices(bool consistency_model) {
    own_odds_ = DraftOdds(own_prior_ = consistency_model ? kOwnOfConsistencyModel : kOwn);
  }
  /// Learn what up to `most` candidates together are worth, whether they are verified or not.
  void watch_candidates(int most) {
    best_odds_.clear();
    for (int count = 2; count <= most; count *= 2) best_odds_[count] = {};
  }
  /// [n] of the last block(): 1 where the draft token stood at its position in the iteration before.
  const std::vector<uint8_t>& stood() const { return stood_; }
  /// Another candidate won: its block [n] takes the place of the draft. What the draft held too goes on standing.
  void take_candidate(std::span<const Token> block);
  /// Verifies the block against the model's choices [n], emits by the stop rule (count_emitted) and rolls the block
  /// forward. The result is valid until the next call.
  const Iteration& advance(std::span<const Token> choices, int64_t budget, const uint8_t* end_of_generation);

 private:
  void forget_draft();
  int draft_recycled(std::span<Token> block, int32_t kept, uint64_t seed) const;
  void observe(std::span<const Token> emitted);
  void look_up();
  void settle();

  std::vector<Token> tokens_;
  int written_ = 0;
  int prompt_size_ = 0;       // the first tokens_ that drafts are drawn from
  std::vector<Token> own_;    // the choices that the last iteration made for later positions, or a draft that was given
  std::vector<Token> block_;  // of the last block()
  std::vector<uint8_t> stood_;  // [block], 1 where a draft token stood there in the iteration before
  // With kDraftRecycled: of each iteration a kNoToken, and what it chose from its last emitted token on.
  std::vector<Token> tails_;
  bool recycles_ = false;  // the last block() did
  bool given_ = false;     // by set_draft()
  int carried_ = 0;        // emitted tokens of last_, whose block the draft comes from; 0: it comes from elsewhere
  uint64_t revision_ = 0;
  Iteration last_;

  // Until drafts have been seen. What is looked up by the tokens of its key, 1 to kLongestKey.
  static constexpr float kOwn = 0.2f, kOwnOfConsistencyModel = 0.85f, kLookedUp[kLongestKey] = {0.15f, 0.45f, 0.7f};
  float own_prior_ = kOwn;
  DraftOdds own_odds_{kOwn};
  std::array<DraftOdds, kLongestKey> looked_up_odds_;            // set by assign()
  std::map<int, std::array<DraftOdds, kLongestKey>> best_odds_;  // of 2, 4, 8 candidates together, as far as allowed
  int own_used_ = 0;                                             // own choices in the last block()
  int key_ = 0;  // tokens of the longest key that stood before; 0: nothing to look up

  /// A draft that could have been, and how far it came true.
  struct Watched {
    std::vector<Token> tokens;
    size_t right = 0;
    bool wrong = false;

    bool over() const { return wrong || right == tokens.size(); }
  };
  // Own choices, where there may be candidates, and what was looked up, in the order of candidates; whether they were
  // drafted or not.
  std::vector<Watched> watched_;
  int watched_key_ = 0;
};

}  // namespace cllm
