#pragma once

#include <array>

namespace cllm {

/// How likely a draft of one kind is right, learned from the drafts of a lane: for each slot j >= 1 the share of right
/// tokens where all before them were right. Later slots count as likely as the one before until they have been seen.
/// Older drafts are forgotten slowly.
class DraftOdds {
 public:
  static constexpr int kSlots = 31;

  /// `prior`: what slot 1 counts as before anything was seen.
  explicit DraftOdds(float prior) : prior_(prior) {}
  DraftOdds() = default;

  /// The first `right` tokens of a draft were right; the one behind them wrong, or (`!wrong`) not seen.
  void observe(int right, bool wrong);
  /// Tokens that a block of n emits on average: 1 and the drafts that are accepted.
  double emitted(int n) const;

 private:
  struct Slot {
    float right = 0, seen = 0;
  };
  float prior_ = 0.5f;
  std::array<Slot, kSlots> slots_ = {};
};

}  // namespace cllm
