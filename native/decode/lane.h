#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/types.h"

namespace cllm {

/// What one Jacobi iteration did to a lane.
struct Iteration {
  int position = 0;            // of block[0]
  std::vector<Token> block;    // [n]
  std::vector<Token> choices;  // [n]
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
  /// The tokens that drafts are drawn from, at least one where there are tokens.
  std::span<const Token> prompt() const {
    return std::span<const Token>(tokens_).first(static_cast<size_t>(prompt_size_));
  }
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

  /// The next block of n tokens: the last confirmed token and the draft, filled up by the draft source.
  std::span<const Token> block(int n, uint64_t seed);
  void set_draft(std::span<const Token> draft);
  /// [n] of the last block(): 1 where the draft token stood at its position in the iteration before.
  const std::vector<uint8_t>& stood() const { return stood_; }
  /// Another candidate won: its block [n] takes the place of the draft. What the draft held too goes on standing.
  void take_candidate(std::span<const Token> block);
  /// Verifies the block against the model's choices [n], emits by the stop rule (count_emitted) and rolls the block
  /// forward. The result is valid until the next call.
  const Iteration& advance(std::span<const Token> choices, int64_t budget, const uint8_t* end_of_generation);

 private:
  std::vector<Token> tokens_;
  int written_ = 0;
  int prompt_size_ = 0;         // the first tokens_ that drafts are drawn from
  std::vector<Token> block_;    // block_[1 .. drafted_] is the draft
  std::vector<uint8_t> stood_;  // [block], 1 where a draft token stood there in the iteration before
  int drafted_ = 0;
  uint64_t revision_ = 0;
  Iteration last_;
};

}  // namespace cllm
