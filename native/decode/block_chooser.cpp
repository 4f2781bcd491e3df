#include "decode/block_chooser.h"

#include <algorithm>
#include <cmath>

namespace cllm {

namespace {

// Multiples of four are what CPU kernels like; few sizes, because each has a graph.
constexpr int kSizes[] = {1, 2, 4, 8, 16, 32, 64, 128};
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
double guess(int tokens) { return 1 + 0.25 * (tokens - 1); }

}  // namespace

void BlockChooser::observe(int lanes, int block, double milliseconds) {
  Cost& cost = costs_[{lanes, block}];
  cost.count++;
  if (cost.count <= kSettled) {
    if (cost.count <= kWarmUp + 1 || milliseconds < cost.milliseconds) cost.milliseconds = milliseconds;
    return;
  }
  cost.milliseconds += kLatest * (std::min(milliseconds, kOutlier * cost.milliseconds) - cost.milliseconds);
}

double BlockChooser::cost(int lanes, int block) const {
  const auto known = costs_.find({lanes, block});
  const bool measured_here = known != costs_.end() && known->second.count > kWarmUp;
  if (measured_here && known->second.count >= kSettled) return known->second.milliseconds;
  double nearest = INFINITY, cost = guess(lanes * block);
  for (const auto& [shape, measured] : costs_) {
    if (measured.count < kSettled) continue;
    const int tokens = shape.first * shape.second;
    const double distance = std::abs(std::log(static_cast<double>(lanes * block) / tokens));
    if (distance >= nearest) continue;
    nearest = distance;
    cost = kHope * measured.milliseconds * guess(lanes * block) / guess(tokens);
  }
  return measured_here && known->second.milliseconds < cost ? known->second.milliseconds : cost;
}

int BlockChooser::choose(int lanes, int largest, const std::function<double(int)>& emitted) {
  int best = 1;
  double most = 0;
  for (const int n : kSizes) {
    if (n > largest) break;
    const double rate = emitted(n) / cost(lanes, n) * (n == 1 ? kClearly : n == present_ ? kNoise : 1);
    if (rate <= most) continue;
    most = rate;
    best = n;
  }
  if (best > 1) {
    single_ = 0;
    single_most_ = kFirstTrial;
  } else if (++single_ >= single_most_ && largest >= kTrial) {
    single_ = 0;
    single_most_ = std::min(2 * single_most_, kLastTrial);
    return kTrial;  // and back, unless it was worth it
  }
  present_ = best;
  return best;
}

}  // namespace cllm
