#include "decode/block_chooser.h"

#include <algorithm>
#include <cmath>

namespace cllm {

namespace {

// Multiples of four suit CPU kernels. There are few sizes, because each needs a graph of its own.
constexpr int32_t kBlockSizes[] = {1, 2, 4, 8, 16, 32, 64, 128};
constexpr int32_t kCandidateCounts[] = {1, 2, 4, 8};
constexpr int32_t kTrialBlock = 4;
// The first pass of a shape builds its graph.
constexpr int kWarmUpPasses = 1;
// Until a shape has run this many times, its quickest pass is its cost: one interrupted pass must not keep a size from
// being tried again.
constexpr int kSettledPasses = 3;
constexpr double kLatestWeight = 0.1;
// A cost that has not been measured for so many passes is uncertain again, so that a shape measured at a bad moment
// gets another chance.
constexpr int64_t kStalePasses = 512;
// What makes passes of one shape slower or faster by this factor, such as the clock, other programs or a longer text,
// is taken to do so to those of all.
constexpr double kChanged = 1.25;
// A pass that took far longer than usual was most likely interrupted. It counts as this many times the usual cost.
constexpr double kOutlierFactor = 1.25;
// The current size stays unless another is better by more than noise. Ordinary decoding stays unless a block promises
// clearly more: the worth of drafts is only estimated, and a block that does not pay costs more than one that is not
// tried.
constexpr double kStayFactor = 1.03, kStayOrdinaryFactor = 1.1;
// The cost of a shape that has not been measured is multiplied by this, so that a shape that might pay is tried.
constexpr double kUnmeasuredFactor = 0.8;

// The cost of a pass over that of one token, until costs are measured. Its growth per further token lies between that
// of an ordinary quantised model (0.3 to 0.6) and that of one with cheap blocks (0.05 to 0.1).
double guessed_cost(int64_t tokens) { return 1 + 0.25 * static_cast<double>(tokens - 1); }

}  // namespace

void BlockChooser::observe(const PassShape& shape, double milliseconds) {
  for (auto& [other, known] : costs_) {
    if (passes_ - known.last_pass == kStalePasses) known.count = std::min(known.count, kWarmUpPasses);
  }
  Cost& cost = costs_[shape];
  cost.last_pass = ++passes_;
  cost.count++;
  if (cost.count <= kSettledPasses) {
    if (cost.count <= kWarmUpPasses + 1 || milliseconds < cost.milliseconds) cost.milliseconds = milliseconds;
    cost.reference = cost.milliseconds;
    return;
  }
  cost.milliseconds += kLatestWeight * (std::min(milliseconds, kOutlierFactor * cost.milliseconds) - cost.milliseconds);
  const double change = cost.milliseconds / cost.reference;
  if (std::max(change, 1 / change) < kChanged) return;
  for (auto& [other, known] : costs_) {
    if (&known != &cost) known.milliseconds *= change;
    known.reference = known.milliseconds;
  }
}

double BlockChooser::cost(const PassShape& shape) const {
  const auto found = costs_.find(shape);
  const bool measured_here = found != costs_.end() && found->second.count > kWarmUpPasses;
  if (measured_here && found->second.count >= kSettledPasses) return found->second.milliseconds;
  double nearest_distance = INFINITY, cost = guessed_cost(shape.rows());
  for (const auto& [other, measured] : costs_) {
    if (measured.count < kSettledPasses) continue;
    const double distance = std::abs(std::log(static_cast<double>(shape.rows()) / static_cast<double>(other.rows())));
    if (distance >= nearest_distance) continue;
    nearest_distance = distance;
    cost = kUnmeasuredFactor * measured.milliseconds * guessed_cost(shape.rows()) / guessed_cost(other.rows());
  }
  return measured_here && found->second.milliseconds < cost ? found->second.milliseconds : cost;
}

PassShape BlockChooser::choose(int lanes, const std::function<bool(const PassShape&)>& fits,
                               const std::function<double(const PassShape&)>& emitted) {
  PassShape best{lanes, 1, 1};
  double best_rate = 0;
  for (const int32_t n : kBlockSizes) {
    for (const int32_t candidates : kCandidateCounts) {
      const PassShape shape{lanes, candidates, n};
      if (!fits(shape)) break;
      const bool current = n == current_.block && candidates == current_.candidates;
      const double rate = emitted(shape) / cost(shape) * (n == 1 ? kStayOrdinaryFactor : current ? kStayFactor : 1);
      if (rate <= best_rate) continue;
      best_rate = rate;
      best = shape;
    }
  }
  const PassShape trial{lanes, 1, kTrialBlock};
  if (best.block > 1) {
    ordinary_passes_ = 0;
    passes_until_trial_ = kMinPassesUntilTrial;
  } else if (++ordinary_passes_ >= passes_until_trial_ && fits(trial)) {
    ordinary_passes_ = 0;
    passes_until_trial_ = std::min(2 * passes_until_trial_, kMaxPassesUntilTrial);
    return trial;  // for one pass only, unless it turns out to pay
  }
  current_ = best;
  return best;
}

}  // namespace cllm
