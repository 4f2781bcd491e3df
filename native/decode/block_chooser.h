#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "kernels/types.h"

namespace cllm {

/// Chooses block size and number of candidates of the next pass so that most tokens are emitted per second. It
/// weighs what drafts have been worth (DraftOdds) against the cost of passes. The cost is measured for shapes that have
/// run, and estimated from the nearest measured shape for others. A block of one token, which is ordinary decoding, is
/// among the choices.
class BlockChooser {
 public:
  /// `fits(shape)`: whether a pass of `lanes` lanes may have this shape. A shape that fits also fits with a
  /// smaller block or fewer candidates; a block of one token has one candidate. `emitted(shape)`: tokens that all lanes
  /// together emit on average.
  PassShape choose(int lanes, const std::function<bool(const PassShape&)>& fits,
                   const std::function<double(const PassShape&)>& emitted);
  void observe(const PassShape& shape, double milliseconds);

 private:
  struct Cost {
    double milliseconds = 0;
    double reference = 0;  // milliseconds when the costs of all shapes were last adjusted to each other
    int count = 0;
    int64_t last_pass = 0;
  };
  double cost(const PassShape& shape) const;

  // Passes of single tokens before a block is tried again, to see whether drafts have become better. The number grows
  // from the first to the second and doubles after each trial in vain.
  static constexpr int kMinPassesUntilTrial = 128, kMaxPassesUntilTrial = 512;
  std::map<PassShape, Cost> costs_;
  int64_t passes_ = 0;
  PassShape current_;
  int ordinary_passes_ = 0;  // passes of single tokens since a block was last tried
  int passes_until_trial_ = kMinPassesUntilTrial;
};

}  // namespace cllm
