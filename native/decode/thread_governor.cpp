#include "decode/thread_governor.h"

#include <algorithm>

namespace cllm {

namespace {

// A window has several passes, or one that takes long.
constexpr int kWindowPasses = 3;
// So many passes of a trial show that a number of threads is much worse.
constexpr int kHopelessPasses = 2;
constexpr double kWindowMilliseconds = 12, kLongPassMilliseconds = 100;
constexpr double kFirstInterval = 50, kLongestInterval = 2000;
// A number of threads replaces another if its passes take less than this share of the time.
constexpr double kBetter = 0.93;
// A window that costs so much more than usual starts a trial at once.
constexpr double kSlow = 1.4;
constexpr double kLatestWeight = 0.05;
// A pass that was held up counts as so many usual ones for what is usual.
constexpr double kHeldUp = 2;
// A window that costs so much more than the best passes of its kind is disturbed; how many of them in a row halve the
// threads; and how fast the best passes are forgotten.
constexpr double kDisturbed = 2, kForgetting = 1.002;
constexpr int kDisturbedWindows = 2;

}  // namespace

bool ThreadGovernor::Window::complete() const {
  return passes > 0 &&
         (milliseconds >= kLongPassMilliseconds || (passes >= kWindowPasses && milliseconds >= kWindowMilliseconds));
}

void ThreadGovernor::observe(int64_t size, double milliseconds) {
  if (fixed_ || most_ == 1) return;
  if (waking_) {
    waking_ = false;
    return;
  }
  const auto [usual, is_new] = usual_.try_emplace(size, milliseconds);
  window_.milliseconds += milliseconds;
  window_.usual += usual->second;
  double& best = best_.try_emplace({size, threads()}, milliseconds).first->second;
  best = std::min(kForgetting * best, milliseconds);
  window_.best += best;
  window_.passes++;
  if (!is_new) usual->second += kLatestWeight * (std::min(milliseconds, kHeldUp * usual->second) - usual->second);
  since_trial_ += milliseconds;
  const bool hopeless = trial_ > 0 && window_.passes >= kHopelessPasses && window_.cost() > kSlow * cost_;
  if (!window_.complete() && !hopeless) return;
  if (trial_ > 0) {
    end_trial();
  } else {
    // A pass that was held up once makes one window costly, but not two.
    cost_ = std::min(window_.cost(), last_cost_);
    last_cost_ = window_.cost();
    const bool disturbed = window_.milliseconds > kDisturbed * window_.best;
    disturbed_windows_ = disturbed ? disturbed_windows_ + 1 : 0;
    if (current_ > 1 && disturbed_windows_ >= kDisturbedWindows) {
      disturbed_windows_ = 0;
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
  waking_ = trial_ > current_;
}

void ThreadGovernor::end_trial() {
  const bool better = window_.cost() < kBetter * cost_;
  if (better) {
    current_ = trial_;
    cost_ = last_cost_ = window_.cost();
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
