#include "decode/draft_odds.h"

#include <algorithm>

namespace cllm {

namespace {

constexpr float kForget = 0.97f;  // so about the last thirty drafts count
constexpr float kPrior = 2;       // the assumed probability weighs as much as so many drafts

}  // namespace

void DraftOdds::observe(int right, bool wrong) {
  for (auto& slot : slots_) {
    slot.right *= kForget;
    slot.seen *= kForget;
  }
  right = std::min(right, kSlots);
  for (int j = 0; j < right; j++) {
    slots_[static_cast<size_t>(j)].right += 1;
    slots_[static_cast<size_t>(j)].seen += 1;
  }
  if (wrong && right < kSlots) slots_[static_cast<size_t>(right)].seen += 1;
}

double DraftOdds::emitted(int n) const {
  double sum = 1, all_right = 1, likely = prior_;
  for (int j = 0; j < std::min(n - 1, kSlots); j++) {
    const Slot& slot = slots_[static_cast<size_t>(j)];
    likely = (slot.right + kPrior * likely) / (slot.seen + kPrior);
    all_right *= likely;
    sum += all_right;
  }
  return sum;
}

}  // namespace cllm
