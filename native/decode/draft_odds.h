#pragma once

#include <array>

namespace cllm {

/// How likely a draft of one kind is right, learned from the drafts of a lane. Each slot j >= 1 has the share of drafts
/// that were right there, out of those that were right in all slots before. A slot that has not been seen is taken to
/// be as likely as the slot before it. Older drafts are forgotten slowly.
class DraftOdds {
 public:
  static constexpr int kSlots = 31;

  /// `prior`: the probability that slot 1 is right, until drafts have been seen.
  explicit DraftOdds(float prior) : prior_(prior) {}
  DraftOdds() = default;

  /// Learns from a draft whose first `right` tokens were right. With `wrong` the token behind them was wrong; without
  /// it that token was never compared.
  void observe(int right, bool wrong);
  /// Tokens that a block of n emits on average where all its n - 1 slots hold drafts: 1 and the accepted drafts.
  double emitted(int n) const;
  /// The same where the drafts are what the iteration before left over: of n choices it emitted some, so only the
  /// others are drafts now. However good they are, such blocks emit (n + 1) / 2 tokens at most.
  double emitted_rolling(int n) const;

 private:
  struct Slot {
    float right = 0, seen = 0;  // drafts, older ones weighing less
    /// That a draft is right here. `before`: the same of the slot before.
    double probability(double before) const;
  };
  float prior_ = 0.5f;
  std::array<Slot, kSlots> slots_ = {};
};

}  // namespace cllm
