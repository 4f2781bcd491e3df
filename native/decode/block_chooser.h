#pragma once

#include <functional>
#include <map>
#include <utility>

namespace cllm {

/// Chooses the block size of the next pass so that most tokens are emitted per second, by what drafts have been worth
/// (DraftOdds) and what passes have cost: measured for each number of lanes and block size that has been run, guessed
/// from the nearest elsewhere. One token, which is ordinary decoding, is among the sizes.
class BlockChooser {
 public:
  /// `emitted(n)`: tokens that all lanes together emit on average with blocks of n. Sizes go from 1 to `largest`.
  int choose(int lanes, int largest, const std::function<double(int)>& emitted);
  void observe(int lanes, int block, double milliseconds);

 private:
  struct Cost {
    double milliseconds = 0;
    int count = 0;
  };
  double cost(int lanes, int block) const;

  static constexpr int kFirstTrial = 128, kLastTrial = 512;
  std::map<std::pair<int, int>, Cost> costs_;
  int present_ = 1;
  int single_ = 0;                 // passes of single tokens since a block was last tried
  int single_most_ = kFirstTrial;  // until one is tried anyway, to see whether drafts have become better
};

}  // namespace cllm
