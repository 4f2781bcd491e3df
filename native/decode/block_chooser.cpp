#include "decode/block_chooser.h"

#include <algorithm>
#include <cmath>

namespace cllm {

namespace {

// Multiples of four are what CPU kernels like. The sizes are few, because each has a graph.
constexpr int32_t kSizes[] = {1, 2, 4, 8, 16, 32, 64, 128};
constexpr int32_t kCandidates[] = {1, 2, 4, 8};
constexpr int32_t kTrialBlock = 4;
// The first pass of a shape builds its graph.
constexpr int kWarmUp = 1;
// Until a shape has been seen so often its quickest pass counts: an interrupted one must not keep a size from being
// tried again.
constexpr int kSettled = 5;
constexpr double kLatestWeight = 0.1;
// A pass that took far longer was most likely interrupted by something else: it counts as one that took a little
// longer.
constexpr double kOutlier = 1.25;
// The current size stays unless another is better by more than noise. Ordinary decoding stays unless a block promises
// clearly more: what drafts will be worth is a guess, and a block that does not pay costs more than one that is not
// tried.
constexpr double kStay = 1.03, kStayOrdinary = 1.1;
// A shape that has not been measured is taken to be a little cheaper than it seems, so that one that might pay is
// tried.
constexpr double kUnmeasured = 0.8;

// How costs grow with the tokens of a pass, until they are measured: between an ordinary quantised model (0.3 to 0.6
// per further token) and one with cheap blocks (0.05 to 0.1).
double guess(int64_t tokens) { return 1 + 0.25 * static_cast<double>(tokens - 1); }

}  // namespace

void BlockChooser::observe(const PassShape& shape, double milliseconds) {
  Cost& cost = costs_[shape];
  cost.count++;
  if (cost.count <= kSettled) {
    if (cost.count <= kWarmUp + 1 || milliseconds < cost.milliseconds) cost.milliseconds = milliseconds;
    return;
  }
  cost.milliseconds += kLatestWeight * (std::min(milliseconds, kOutlier * cost.milliseconds) - cost.milliseconds);
}

double BlockChooser::cost(const PassShape& shape) const {
  const auto found = costs_.find(shape);
  const bool measured_here = found != costs_.end() && found->second.count > kWarmUp;
  if (measured_here && found->second.count >= kSettled) return found->second.milliseconds;
  double nearest = INFINITY, cost = guess(shape.rows());
  for (const auto& [other, measured] : costs_) {
    if (measured.count < kSettled) continue;
    const double distance = std::abs(std::log(static_cast<double>(shape.rows()) / static_cast<double>(other.rows())));
    if (distance >= nearest) continue;
    nearest = distance;
    cost = kUnmeasured * measured.milliseconds * guess(shape.rows()) / guess(other.rows());
  }
  return measured_here && found->second.milliseconds < cost ? found->second.milliseconds : cost;
}

PassShape BlockChooser::choose(int lanes, const std::function<bool(const PassShape&)>& fits,
                               const std::function<double(const PassShape&)>& emitted) {
  PassShape best{lanes, 1, 1};
  double best_rate = 0;
  for (const int32_t n : kSizes) {
    for (const int32_t candidates : kCandidates) {
      const PassShape shape{lanes, candidates, n};
      if (!fits(shape)) break;
      const bool current = n == current_.block && candidates == current_.candidates;
      const double rate = emitted(shape) / cost(shape) * (n == 1 ? kStayOrdinary : current ? kStay : 1);
      if (rate <= best_rate) continue;
      best_rate = rate;
      best = shape;
    }
  }
  const PassShape trial{lanes, 1, kTrialBlock};
  if (best.block > 1) {
    singles_ = 0;
    wait_ = kMinWait;
  } else if (++singles_ >= wait_ && fits(trial)) {
    singles_ = 0;
    wait_ = std::min(2 * wait_, kMaxWait);
    return trial;  // for one pass, unless it was worth it
  }
  current_ = best;
  return best;
}

}  // namespace cllm
