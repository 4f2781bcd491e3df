#pragma once

#include <functional>
#include <map>

#include "kernels/types.h"

namespace cllm {

/// Chooses block size and number of candidates of the next pass so that most tokens are emitted per second. It goes by
/// what drafts have been worth (DraftOdds) and what passes have cost: measured for shapes that have been run, guessed
/// from the nearest measured one for others. One token, which is ordinary decoding, is among the sizes.
class BlockChooser {
 public:
  /// `fits(shape)`: whether a pass of `lanes` lanes may have this shape. A shape that fits still does with a smaller
  /// block or fewer candidates; one token has one candidate. `emitted(shape)`: tokens that all lanes together emit on
  /// average.
  PassShape choose(int lanes, const std::function<bool(const PassShape&)>& fits,
                   const std::function<double(const PassShape&)>& emitted);
  void observe(const PassShape& shape, double milliseconds);

 private:
  struct Cost {
    double milliseconds = 0;
    int count = 0;
  };
  double cost(const PassShape& shape) const;

  // Passes of single tokens before a block is tried again, to see whether drafts have become better: from the first
  // number to the second, doubled after each trial in vain.
  static constexpr int kMinWait = 128, kMaxWait = 512;
  std::map<PassShape, Cost> costs_;
  PassShape current_;
  int singles_ = 0;  // passes of single tokens since a block was last tried
  int wait_ = kMinWait;
};

}  // namespace cllm
