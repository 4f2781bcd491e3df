#pragma once

#include <string>
#include <vector>

#include "decode/iteration_runner.h"

namespace cllm {

/// llama_decode, logits in host memory, rejected rows removed with llama_memory_seq_rm before the next pass. Works with
/// every model that llama.cpp can decode, and is the reference for other runners.
class HostRunner : public IterationRunner {
 public:
  explicit HostRunner(Context& context) : context_(context) {}

  const char* name() const override { return "host"; }
  std::string reason() const override { return "llama_decode with logits in host memory: works with every model"; }
  /// Verifies the lane's own block alone, whatever `shape.candidates`.
  bool begin(std::span<const LaneRun> lanes, const PassShape& shape) override;
  /// Runs one iteration whatever `count`: its result is known at once, so there is nothing to gain from more.
  PassResult iterate(int count) override;
  std::span<const LaneOutcome> poll() override { return outcomes_; }
  double forward_milliseconds() const override { return context_.pass_milliseconds(); }
  void end() override {}  // Context trims a lane's rejected rows when it is next decoded

 private:
  Context& context_;
  int block_size_ = 0;
  std::vector<LaneRun> lanes_;
  std::vector<Piece> pieces_;
  std::vector<Token> choices_;
  std::vector<Sampling> samplings_;  // of the lanes, as biases_ and states_
  std::vector<const float*> biases_;
  std::vector<LaneState> states_;  // of which choose() reads the position
  std::vector<LaneOutcome> outcomes_;
};

}  // namespace cllm
