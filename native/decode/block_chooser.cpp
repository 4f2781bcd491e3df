#include "decode/block_chooser.h"

#include <algorithm>
#include <cmath>

namespace cllm {

namespace {

// Multiples of four are what CPU kernels like; few sizes, because each has a graph.
constexpr int32_t kSizes[] = {1, 2, 4, 8, 16, 32, 64, 128};
constexpr int32_t kCandidates[] = {1, 2, 4, 8};
constexpr int kTrial = 4;
// The first pass of a shape builds its graph.
constexpr int kWarmUp = 1;
// Until so many have been seen the quickest counts: one that was interrupted must not keep a size from being tried
// again.
constexpr int kSettled = 5;
constexpr double kLatest = 0.1;
// A pass that took far longer was interrupted by something else, most likely: it counts as one that took a little
// longer.
constexpr double kOutlier = 1.25;
// The present size stays unless another is better by more than noise. Ordinary decoding stays unless a block promises
// clearly more: what drafts will be worth is a guess, and a block that does not pay costs more than one that is not
// tried.
constexpr double kNoise = 1.03, kClearly = 1.1;
// What has not been measured is taken to be a little cheaper than it seems, so that what might pay is tried.
constexpr double kHope = 0.8;

// How costs grow with the tokens of a pass, until measured: between an ordinary quantised model (0.3 to 0.6 per further
// token) and one with cheap blocks (0.05 to 0.1).
double guess(int64_t tokens) { return 1 + 0.25 * static_cast<double>(tokens - 1); }

}  // namespace

void BlockChooser::observe(const PassShape& shape, double milliseconds) {
  Cost& cost = costs_[shape];
  cost.count++;
  if (cost.count <= kSettled) {
    if (cost.count <= kWarmUp + 1 || milliseconds < cost.milliseconds) cost.milliseconds = milliseconds;
    return;
  }
  cost.milliseconds += kLatest * (std::min(milliseconds, kOutlier * cost.milliseconds) - cost.milliseconds);
}

double BlockChooser::cost(const PassShape& shape) const {
  const auto known = costs_.find(shape);
  const bool measured_here = known != costs_.end() && known->second.count > kWarmUp;
  if (measured_here && known->second.count >= kSettled) return known->second.milliseconds;
  double nearest = INFINITY, cost = guess(shape.rows());
  for (const auto& [other, measured] : costs_) {
    if (measured.count < kSettled) continue;
    const double distance = std::abs(std::log(static_cast<double>(shape.rows()) / static_cast<double>(other.rows())));
    if (distance >= nearest) continue;
    nearest = distance;
    cost = kHope * measured.milliseconds * guess(shape.rows()) / guess(other.rows());
  }
  return measured_here && known->second.milliseconds < cost ? known->second.milliseconds : cost;
}

PassShape BlockChooser::choose(int lanes, const std::function<bool(const PassShape&)>& fits,
                               const std::function<double(const PassShape&)>& emitted) {
  PassShape best{lanes, 1, 1};
  double most = 0;
  for (const int32_t n : kSizes) {
    for (const int32_t candidates : kCandidates) {
      const PassShape shape{lanes, candidates, n};
      if (!fits(shape)) break;
      const bool present = n == present_.block && candidates == present_.candidates;
      const double rate = emitted(shape) / cost(shape) * (n == 1 ? kClearly : present ? kNoise : 1);
      if (rate <= most) continue;
      most = rate;
      best = shape;
    }
  }
  const PassShape trial{lanes, 1, kTrial};
  if (best.block > 1) {
    single_ = 0;
    single_most_ = kFirstTrial;
  } else if (++single_ >= single_most_ && fits(trial)) {
    single_ = 0;
    single_most_ = std::min(2 * single_most_, kLastTrial);
    return trial;  // and back, unless it was worth it
  }
  present_ = best;
  return best;
}

}  // namespace cllm
