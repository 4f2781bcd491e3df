#pragma once

#include <vector>

#include "decode/iteration_runner.h"

namespace cllm {

/// Calls llama_decode with logits in host memory, and removes rejected rows with llama_memory_seq_rm before the next
/// pass. It works with every model that llama.cpp can decode, and is the reference for other runners.
class HostRunner : public IterationRunner {
 public:
  explicit HostRunner(Context& context) : context_(context) {}

  /// Takes all lanes. Verifies the lane's own block alone, whatever shape.candidates, and runs one iteration, whatever
  /// `count`: its result is known at once, so there is nothing to gain from more.
  std::optional<PassResult> run(std::span<const LaneWork> lanes, const PassShape& shape, int count,
                                BurstObserver& observer) override;

 private:
  void choose_tokens(std::span<const LaneWork> lanes, int block_size);

  Context& context_;
  std::vector<LaneTokens> blocks_;  // one per lane, like samplings_, biases_ and states_
  std::vector<Sampling> samplings_;
  std::vector<const float*> biases_;
  std::vector<LaneState> states_;  // choose() reads the position alone
  std::vector<Token> choices_;     // [lanes, block]
};

}  // namespace cllm
