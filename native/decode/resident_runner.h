#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

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

  const char* name() const override { return "resident"; }
  std::string reason() const override;
  /// Whether a pass of this shape can run here: what needs splitting into parts is for HostRunner.
  bool fits(const PassShape& shape) const;
  bool begin(std::span<const LaneRun> lanes, const PassShape& shape) override;
  PassResult iterate(int count) override;
  std::span<const LaneOutcome> poll() override { return outcomes_; }
  void end() override {}
  double forward_milliseconds() const override { return forward_milliseconds_; }

  /// For tests: the tokens of candidate c >= 1 of a resident lane for its next iteration, [block_size]; the first is
  /// replaced by the lane's confirmed token.
  void set_candidate(int lane, int candidate, std::span<const Token> tokens);
  /// For tests: the graph of a resident lane's run, and what the device knows of the lane.
  const ResidentGraph* graph_of(int lane) const { return resident(lane).graph; }
  const LaneState& state_of(int lane) const { return resident(lane).state; }
  KernelDevice& device() { return *device_; }

 private:
  /// The claim that a lane's rows are part of.
  struct Held {
    int first = -1;
    PassShape shape;
    uint64_t epoch = 0;  // of the bridge's graphs
  };
  /// What the host knows of a lane on the device.
  struct Resident {
    Held held;
    ResidentGraph* graph = nullptr;
    ScratchRows scratch;
    uint64_t touches = 0;   // of the context's lane, when its rows were claimed
    uint64_t revision = 0;  // of the Lane, when device and Lane were last the same
    LaneState state;
    bool uploaded = false;  // the device's inputs and state are those of the Lane
    Choosing choosing;      // as the device has it
    float* bias = nullptr;  // [vocab], its place in device memory, once one was needed
  };
  /// Consecutive lanes, which share a graph.
  struct Run {
    int first = 0;
    std::vector<LaneRun> lanes;
    PassShape shape;
  };

  ResidentRunner(Context& context, std::unique_ptr<GraphBridge> bridge, std::unique_ptr<KernelDevice> device);
  Resident& resident(int lane) { return resident_[static_cast<size_t>(lane)]; }
  const Resident& resident(int lane) const { return resident_[static_cast<size_t>(lane)]; }
  int32_t* ring(const Run& run) const;
  bool begin_run(const Run& run);
  bool claimed(const Run& run) const;
  bool claim(const Run& run);
  void upload(const Run& run, size_t b);
  void upload_choosing(const LaneRun& lane);
  PassResult compute(const Run& run);
  void enqueue_kernels(const Run& run, int slot);
  bool all_stopped() const;
  const float* read_logits(const Run& run, size_t b, int winner);
  bool replay(int count);

  Context& context_;
  std::unique_ptr<GraphBridge> bridge_;
  std::unique_ptr<KernelDevice> device_;
  int most_candidates_;
  int max_block_;
  std::vector<Resident> resident_;  // [lanes of the context]
  std::vector<Run> runs_;           // of the burst

  // Device arrays, each with room for all lanes and the largest block; a run uses the part that begins at its first
  // lane.
  Token* choices_ = nullptr;              // [lanes, C, n]
  Verdict* verdicts_ = nullptr;           // [lanes]
  LaneState* states_ = nullptr;           // [lanes]
  Sampling* samplings_ = nullptr;         // [lanes]
  const float** biases_ = nullptr;        // [lanes] of [vocab] or null
  uint8_t* stood_ = nullptr;              // [lanes, n]
  Token* tokens_ = nullptr;               // [lanes, context_size + 1]: a lane writes up to row_end
  uint8_t* end_of_generation_ = nullptr;  // [vocab]
  KvTensor* kv_tensors_ = nullptr;
  int32_t* ring_ = nullptr;  // [lanes, kRingSlots, ring_words(n)]

  std::vector<Iteration> iterations_;
  std::vector<LaneOutcome> outcomes_;
  std::deque<std::vector<float>> logits_;  // of the last iteration, per lane that asked for them
  std::vector<int64_t> staged_indices_;
  std::vector<Token> staged_words_;
  std::vector<uint64_t> staged_mask_;
  double forward_milliseconds_ = 0;
};

}  // namespace cllm
