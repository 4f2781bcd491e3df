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

  /// One line for decoder.info that tells what runs where.
  std::string reason() const;
  /// Whether a pass of this shape can run here. Passes that must be split into parts are for HostRunner.
  bool fits(const PassShape& shape) const;
  std::optional<Burst> run(std::span<const LaneWork> lanes, const PassShape& shape, int count) override;

  // For tests:
  /// Makes the lanes resident, as run() does before its first iteration. Returns false where run() would return null.
  bool make_resident(std::span<const LaneWork> lanes, const PassShape& shape);
  /// Sets the tokens of candidate c >= 1 of a resident lane for its next iteration, [block]. The first of
  /// them is not written: it stays the lane's confirmed token.
  void set_candidate(int lane, int candidate, std::span<const Token> tokens);
  const DeviceLane& device_lane(int lane) const { return lanes_[lane]; }
  KernelDevice& device() { return *device_; }

 private:
  ResidentRunner(Context& context, std::unique_ptr<GraphBridge> bridge, std::unique_ptr<KernelDevice> device);
  bool make_group_resident(const LaneGroup& group);
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
  std::vector<LaneGroup> groups_;  // groups of the burst

  std::vector<Iteration> iterations_;  // iterations of the burst, with room for longer bursts
  std::vector<LaneOutcome> outcomes_;
  std::deque<std::vector<float>> logits_;  // logits of the last iteration, for each lane that wants them
  double forward_milliseconds_ = 0;
};

}  // namespace cllm
