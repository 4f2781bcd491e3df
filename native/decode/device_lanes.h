#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/context.h"
#include "decode/iteration_runner.h"
#include "kernels/device.h"
#include "llama/graph_bridge.h"

namespace cllm {

/// Consecutive lanes, which share a graph.
struct LaneGroup {
  int first = 0;  // index of lanes[0]
  std::vector<LaneWork> lanes;
  PassShape shape;
  std::vector<bool> left = {};  // [lanes]: the lane takes no further part in the burst
};

/// What the host knows of a lane on the device.
struct DeviceLane {
  // The claim of its rows, which it shares with its group.
  int group_first = -1;            // LaneGroup::first
  PassShape group_shape;           // LaneGroup::shape
  ResidentGraph* graph = nullptr;  // graph of the group; null: there is no valid one
  uint64_t epoch = 0;              // GraphBridge::epoch() when the bridge returned the graph
  uint64_t touches = 0;            // Context::touches() when the rows were claimed
  ScratchRows scratch;

  // What the device holds for it.
  LaneState state;
  int32_t plane = 0;          // where its recurrent state is, see StateInputs
  int32_t pass_position = 0;  // of x[0] in the last pass that emitted tokens
  bool uploaded = false;      // the device's inputs and state are those of the Lane
  uint64_t revision = 0;      // Lane::revision() when device and Lane last agreed
  Choosing choosing;
  float* bias = nullptr;  // [vocab] in device memory, allocated when the lane first has a bias
};

/// All lanes of a context in device memory: the arrays that kernels work on, each with room for all lanes and the
/// largest block, and what the host knows of each lane.
class DeviceLanes {
 public:
  /// The parts of the arrays that a group of lanes uses; they begin at its first lane.
  struct Arrays {
    Token* choices;                    // [B, C, n]
    Verdict* verdicts;                 // [B]
    LaneState* states;                 // [B]
    const Sampling* samplings;         // [B]
    const float* const* biases;        // [B] of [vocab] or null
    uint8_t* stood;                    // [B, n]
    Ring ring;                         // kMaxBurst slots
    const uint8_t* end_of_generation;  // [vocab], shared by all lanes
    const KvTensor* kv_tensors;        // shared by all lanes
    const StateTensor* state_tensors;  // shared by all lanes
  };

  DeviceLanes(const Context& context, KernelDevice& device, const GraphBridge& bridge);

  DeviceLane& operator[](int lane) { return lanes_[static_cast<size_t>(lane)]; }
  const DeviceLane& operator[](int lane) const { return lanes_[static_cast<size_t>(lane)]; }
  /// Tokens of a block, at most.
  int max_block() const { return max_block_; }
  Arrays arrays_of(const LaneGroup& group) const;
  /// The loop's state and limit, shared by all lanes.
  LoopState* loop_state() const { return loop_state_; }
  uint32_t* loop_limit() const { return loop_limit_; }

  /// Brings the device up to date with what lane b of the group is decoded with next. Costs nothing where it already
  /// is.
  void upload(const LaneGroup& group, size_t b);

 private:
  /// Host memory, from which attention inputs are written.
  struct Staged {
    std::vector<int64_t> rows;
    std::vector<uint64_t> mask;
  };

  bool is_current(const LaneWork& work) const;
  void upload_choosing(const LaneWork& work);
  void upload_text(const LaneWork& work);
  void upload_state(const LaneWork& work);
  void upload_inputs(const LaneGroup& group, size_t b);
  AttentionInputs stage(const AttentionInputs& inputs, size_t rows, Staged& staged) const;
  void upload_attention(const AttentionInputs& to, const AttentionInputs& from, size_t b, size_t rows);

  const Context& context_;
  KernelDevice& device_;
  int max_candidates_;
  int max_block_;
  std::vector<DeviceLane> lanes_;

  Token* choices_ = nullptr;              // [lanes, C, n]
  Verdict* verdicts_ = nullptr;           // [lanes]
  LaneState* states_ = nullptr;           // [lanes]
  Sampling* samplings_ = nullptr;         // [lanes]
  const float** biases_ = nullptr;        // [lanes]
  uint8_t* stood_ = nullptr;              // [lanes, n]
  Token* tokens_ = nullptr;               // [lanes, context_size + 1]: a lane writes up to row_end
  uint8_t* end_of_generation_ = nullptr;  // [vocab]
  KvTensor* kv_tensors_ = nullptr;
  StateTensor* state_tensors_ = nullptr;
  int32_t index_bits_;
  int32_t* latest_ = nullptr;   // [lanes, kMaxKeyLength, 1 << index_bits_]
  int32_t* earlier_ = nullptr;  // [lanes, context_size + 1, kMaxKeyLength]
  uint64_t* ring_ = nullptr;    // [lanes, kMaxBurst, ring_words(n)]
  LoopState* loop_state_ = nullptr;
  uint32_t* loop_limit_ = nullptr;

  Staged staged_full_, staged_windowed_;
  std::vector<Token> staged_words_;  // like Staged, for tokens and positions
};

}  // namespace cllm
