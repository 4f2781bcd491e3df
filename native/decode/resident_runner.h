#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "decode/device_lanes.h"
#include "decode/iteration_runner.h"
#include "kernels/device.h"
#include "llama/graph_bridge.h"

namespace cllm {

/// The Jacobi loop in device memory: graph -> choose -> verify -> roll_forward -> advance, any number of iterations
/// without the host. The host reads what happened from the ring and replays it in its Lanes, which must come to the
/// same result. On the CPU device memory is host memory and the kernels are the CPU ones; the loop is the same.
///
/// A lane stays resident between bursts: its KV rows remain claimed and its inputs in place until somebody else touches
/// its rows (Context::touches) or its tokens (Lane::revision), or it runs out of claimed rows. So a burst that
/// continues the last one costs the host next to nothing.
class ResidentRunner : public IterationRunner {
 public:
  /// Null when the context cannot be decoded this way; `reason` says why.
  static std::unique_ptr<ResidentRunner> create(Context& context, std::string& reason);

  /// What runs where, one line for decoder.info.
  std::string reason() const;
  /// Whether a pass of this shape can run here: what needs splitting into parts is for HostRunner.
  bool fits(const PassShape& shape) const;
  std::optional<Burst> run(std::span<const LaneWork> lanes, const PassShape& shape, int count) override;

  // For tests:
  /// Makes the lanes resident, as run() does before its first iteration. False where run() would be null.
  bool take(std::span<const LaneWork> lanes, const PassShape& shape);
  /// Sets the tokens of candidate c >= 1 of a resident lane for its next iteration, [block]; the lane's confirmed token
  /// stands for the first.
  void set_candidate(int lane, int candidate, std::span<const Token> tokens);
  const DeviceLane& device_lane(int lane) const { return lanes_[lane]; }
  KernelDevice& device() { return *device_; }

 private:
  ResidentRunner(Context& context, std::unique_ptr<GraphBridge> bridge, std::unique_ptr<KernelDevice> device);
  bool take_group(const LaneGroup& group);
  bool is_claimed(const LaneGroup& group) const;
  bool claim(const LaneGroup& group);
  PassResult compute(const LaneGroup& group);
  void enqueue_kernels(const LaneGroup& group, int ring_slot);
  bool all_stopped() const;
  // resident_replay.cpp
  bool replay(int count);
  bool replay_lane(LaneGroup& group, size_t b, int ring_slot);
  const float* read_logits(const LaneGroup& group, size_t b, int winner);

  Context& context_;
  std::unique_ptr<GraphBridge> bridge_;
  std::unique_ptr<KernelDevice> device_;
  DeviceLanes lanes_;
  std::vector<LaneGroup> groups_;  // of the burst

  std::vector<Iteration> iterations_;  // of the burst, and room for longer ones
  std::vector<LaneOutcome> outcomes_;
  std::deque<std::vector<float>> logits_;  // of the last iteration, per lane that asked for them
  double forward_milliseconds_ = 0;
};

}  // namespace cllm
