#include "decode/draft_odds.h"

#include <algorithm>

namespace cllm {

namespace {

constexpr float kForgetFactor = 0.97f;  // so about the last thirty drafts count
constexpr float kPriorDrafts = 2;       // the prior weighs as much as this many drafts

}  // namespace

void DraftOdds::observe(int right, bool wrong) {
  for (auto& slot : slots_) {
    slot.right *= kForgetFactor;
    slot.seen *= kForgetFactor;
  }
  right = std::min(right, kSlots);
  for (int j = 0; j < right; j++) {
    slots_[static_cast<size_t>(j)].right += 1;
    slots_[static_cast<size_t>(j)].seen += 1;
  }
  if (wrong && right < kSlots) slots_[static_cast<size_t>(right)].seen += 1;
}

double DraftOdds::Slot::probability(double before) const {
  return (right + kPriorDrafts * before) / (seen + kPriorDrafts);
}

double DraftOdds::emitted(int n) const {
  double tokens = 1, all_right = 1, probability = prior_;
  for (int j = 0; j < std::min(n - 1, kSlots); j++) {
    probability = slots_[static_cast<size_t>(j)].probability(probability);
    all_right *= probability;
    tokens += all_right;
  }
  return tokens;
}

// Finds the number of drafts, between two whole ones, for which tokens emitted and drafts left over add up to n.
double DraftOdds::emitted_rolling(int n) const {
  double tokens = 1, all_right = 1, probability = prior_;
  for (int j = 0; j < std::min(n - 1, kSlots); j++) {
    probability = slots_[static_cast<size_t>(j)].probability(probability);
    all_right *= probability;
    if (tokens + all_right + j + 1 >= n) return tokens + all_right * (n - tokens - j) / (all_right + 1);
    tokens += all_right;
  }
  return tokens;
}

}  // namespace cllm
