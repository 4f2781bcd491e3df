#pragma once

#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "decode/device_lanes.h"
#include "decode/iteration_runner.h"
#include "kernels/device.h"
#include "llama/graph_bridge.h"

namespace cllm {

/// A forward pass that failed or was aborted.
struct PassEnded : std::runtime_error {
  PassResult result;
  PassEnded(PassResult result, const std::string& what) : std::runtime_error(what), result(result) {}
};

/// The Jacobi loop in device memory: graph -> choose -> advance -> roll_forward, any number of iterations without the
/// host. The host reads what happened from the ring while the device goes on, and replays it in its Lanes, which must
/// come to the same result. On the CPU device memory is host memory and the kernels are the CPU ones; the loop is the
/// same.
///
/// A lane stays resident between bursts: its KV rows remain claimed and its inputs in place until somebody else touches
/// its rows (Context::touches) or its tokens (Lane::revision), or it runs out of claimed rows. So a burst that
/// continues the last one costs the host next to nothing.
///
/// Where the device records (KernelDevice::record), the iteration of a burst that comes a second time is recorded, and
/// launched as a whole from then on. A recording holds addresses: it is dropped when the bridge's graphs change, or
/// when device memory that it may use has been freed.
class ResidentRunner : public IterationRunner {
 public:
  /// Null when the context cannot be decoded this way; `reason` says why. `device`, for tests, is used in place of the
  /// bridge's own.
  static std::unique_ptr<ResidentRunner> create(Context& context, std::string& reason,
                                                std::unique_ptr<KernelDevice> device = nullptr);
  ~ResidentRunner() override;

  /// One line for decoder.info that tells what runs where.
  std::string reason() const;
  /// What the last burst was launched as. On any thread.
  struct Launched {
    Recorded recorded = Recorded::kNothing;
    size_t nodes = 0;     // of the recorded iteration
    std::string refusal;  // why the device recorded nothing, if it tried
  };
  Launched launched() const;
  /// Whether a pass of this shape can run here. Passes that must be split into parts are for HostRunner.
  bool fits(const PassShape& shape) const;
  std::optional<PassResult> run(std::span<const LaneWork> lanes, const PassShape& shape, int count,
                                BurstObserver& observer) override;

  // For tests:
  /// Makes the lanes resident, as run() does before its first iteration. Returns false where run() would return null.
  bool make_resident(std::span<const LaneWork> lanes, const PassShape& shape);
  /// Sets the tokens of candidate c >= 1 of a resident lane for its next iteration, [block]. The first of
  /// them is not written: it stays the lane's confirmed token.
  void set_candidate(int lane, int candidate, std::span<const Token> tokens);
  const DeviceLane& device_lane(int lane) const { return lanes_[lane]; }
  KernelDevice& device() const { return *device_; }
  size_t recordings() const { return recordings_.size(); }

 private:
  /// What a recorded iteration depends on: the passes of its groups.
  struct Pass {
    const ResidentGraph* graph;
    int first;
    PassShape shape;
    int32_t scratch;
    bool biased, samples;
    bool operator==(const Pass&) const = default;
  };
  struct RecordedBurst {
    std::vector<Pass> passes;
    uint64_t last_use = 0;
    bool tried = false;                    // it has been recorded, or refused
    std::unique_ptr<Recording> recording;  // null: not yet, or refused, or not to be launched
  };

  ResidentRunner(Context& context, std::unique_ptr<GraphBridge> bridge, std::unique_ptr<KernelDevice> device);
  bool make_group_resident(const LaneGroup& group);
  bool is_claimed(const LaneGroup& group) const;
  bool claim(const LaneGroup& group);
  // resident_burst.cpp
  PassResult burst(int count, bool logits, BurstObserver& observer);
  Pass pass_of(const LaneGroup& group) const;
  RecordedBurst* recorded_burst();
  bool launch(RecordedBurst& recorded);
  void tell_launched(const RecordedBurst& recorded, const std::string& refusal);
  void enqueue(bool reads_logits);
  void enqueue_kernels(const LaneGroup& group);
  void set_limit(uint32_t limit);
  bool wait_for_iteration(bool is_last);
  bool any_lane_runs() const;
  void abandon();
  // resident_replay.cpp
  bool replay(BurstObserver& observer);
  bool replay_lane(LaneGroup& group, size_t b, const int32_t* record, BurstObserver& observer);
  void read_logits(const LaneGroup& group);
  void note_rows(bool single_iteration);
  void note_states(bool single_iteration);

  Context& context_;
  std::unique_ptr<GraphBridge> bridge_;
  std::unique_ptr<KernelDevice> device_;
  DeviceLanes lanes_;
  std::vector<LaneGroup> groups_;  // groups of the burst

  uint32_t iteration_ = 0;  // LoopState::iteration of the next iteration that is read
  double enqueueing_ = 0;   // LaneOutcome::forward_milliseconds of the next iteration that is read
  std::vector<RecordedBurst> recordings_;
  uint64_t recordings_epoch_ = 0;  // GraphBridge::epoch() and frees() when the recordings were made
  uint64_t recordings_frees_ = 0;
  uint64_t use_count_ = 0;
  mutable std::mutex launched_mutex_;
  Launched launched_;

  std::vector<int32_t> records_;  // of all lanes in their order, for the iteration that is read
  Iteration iteration_read_;
  /// By lane: the logits of the iteration, [candidates * n * vocab], of those that want them.
  std::vector<std::vector<float>> logits_;
};

}  // namespace cllm
