#pragma once

#include <functional>
#include <map>
#include <tuple>

#include "kernels/types.h"

namespace cllm {

/// Chooses block size and number of candidates of the next pass so that most tokens are emitted per second, by what
/// drafts have been worth (DraftOdds) and what passes have cost: measured for each shape that has been run, guessed
/// from the nearest elsewhere. One token, which is ordinary decoding, is among the sizes.
class BlockChooser {
 public:
  /// `fits(shape)`: whether a pass of `lanes` lanes may have this shape; where it fits, so does one of a smaller
  /// block or of fewer candidates; one token has one candidate. `emitted(shape)`: tokens that all lanes together emit
  /// on average.
  PassShape choose(int lanes, const std::function<bool(const PassShape&)>& fits,
                   const std::function<double(const PassShape&)>& emitted);
  void observe(const PassShape& shape, double milliseconds);

 private:
  struct Cost {
    double milliseconds = 0;
    int count = 0;
  };
  struct Order {
    bool operator()(const PassShape& a, const PassShape& b) const {
      return std::tie(a.lanes, a.candidates, a.block) < std::tie(b.lanes, b.candidates, b.block);
    }
  };
  double cost(const PassShape& shape) const;

  static constexpr int kFirstTrial = 128, kLastTrial = 512;
  std::map<PassShape, Cost, Order> costs_;
  PassShape present_;
  int single_ = 0;                 // passes of single tokens since a block was last tried
  int single_most_ = kFirstTrial;  // until one is tried anyway, to see whether drafts have become better
};

}  // namespace cllm
