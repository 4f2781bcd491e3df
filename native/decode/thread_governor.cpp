#include "decode/thread_governor.h"

#include <algorithm>

namespace cllm {

namespace {

// A window has several passes, or one that takes long.
constexpr int kWindowPasses = 3;
constexpr double kWindowMilliseconds = 12, kLongPassMilliseconds = 100;
constexpr double kFirstInterval = 50, kLongestInterval = 2000;
// A number of threads replaces another if its passes take less than this share of the time.
constexpr double kBetter = 0.93;
// A window that costs so much more than usual starts a trial at once.
constexpr double kSlow = 1.4;
constexpr double kLatestWeight = 0.05;
// A window that costs so much more than the best passes of its kind is disturbed; and how fast these are forgotten.
constexpr double kDisturbed = 2, kForgetting = 1.002;

}  // namespace

bool ThreadGovernor::Window::complete() const {
  return passes > 0 &&
         (milliseconds >= kLongPassMilliseconds || (passes >= kWindowPasses && milliseconds >= kWindowMilliseconds));
}

void ThreadGovernor::observe(int64_t size, double milliseconds) {
  if (fixed_ || most_ == 1) return;
  const auto [usual, is_new] = usual_.try_emplace(size, milliseconds);
  window_.milliseconds += milliseconds;
  window_.usual += usual->second;
  double& best = best_.try_emplace({size, threads()}, milliseconds).first->second;
  best = std::min(kForgetting * best, milliseconds);
  window_.best += best;
  window_.passes++;
  if (!is_new) usual->second += kLatestWeight * (milliseconds - usual->second);
  since_trial_ += milliseconds;
  // One pass is enough to see that a number is much worse.
  const bool hopeless = trial_ > 0 && window_.cost() > kSlow * cost_;
  if (!window_.complete() && !hopeless) return;
  if (trial_ > 0) {
    end_trial();
  } else {
    cost_ = window_.cost();
    if (current_ > 1 && window_.milliseconds > kDisturbed * window_.best) {
      current_ = std::max(1, current_ / 2);
      interval_ = kFirstInterval;
      since_trial_ = 0;
      window_ = {};
      return;
    }
    if (interval_ == 0) interval_ = kFirstInterval;
    if (since_trial_ >= interval_ || (cost_ > kSlow && since_trial_ >= kFirstInterval)) start_trial();
  }
  window_ = {};
}

// One thread less helps against one other program, half of them against many, and more of them when they have gone.
void ThreadGovernor::start_trial() {
  const int candidates[] = {current_ - 1, (current_ + most_ + 1) / 2, current_ / 2, current_ + 1};
  constexpr int kCount = 4;
  for (int i = 0; i < kCount && trial_ == 0; i++) {
    const int candidate = candidates[next_candidate_++ % kCount];
    if (candidate >= 1 && candidate <= most_ && candidate != current_) trial_ = candidate;
  }
}

void ThreadGovernor::end_trial() {
  const bool better = window_.cost() < kBetter * cost_;
  if (better) {
    current_ = trial_;
    // What was once the least may not be reached any more, behind a longer text.
    std::erase_if(best_, [this](const auto& entry) { return entry.first.second == current_; });
    next_candidate_--;  // the same direction again
  }
  const double longer = window_.cost() > kSlow * cost_ ? 4 : 2;
  interval_ = better ? kFirstInterval : std::min(longer * interval_, kLongestInterval);
  trial_ = 0;
  since_trial_ = 0;
}

}  // namespace cllm
