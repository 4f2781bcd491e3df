#pragma once

#include <cstdint>

#include "kernels/advance.h"
#include "kernels/types.h"

namespace cllm {

/// One state tensor of one recurrent layer: row r in `row_bytes` bytes at data + r * row_bytes. StateInputs says which
/// row is whose.
struct StateTensor {
  char* data = nullptr;
  int64_t row_bytes = 0;
};

/// `keep_state`: for each lane that emitted tokens in this iteration and can run no longer, copies the state behind its
/// last emitted token from plane n - emitted to the spare plane, in all layers. Later passes over the lane then leave
/// its state alone. It runs after `advance`, whose verdicts and states it reads, and before the next pass.
struct KeepStateArgs {
  PassShape shape;                       // C == 1
  const Verdict* verdicts = nullptr;     // [B]
  const LaneState* lanes = nullptr;      // [B]
  const StateTensor* tensors = nullptr;  // [count], in device memory
  int32_t count = 0;
  int32_t first_lane = 0;
  StateInputs states;
};

/// Whether keep_state copies the lane's state.
CLLM_HOST_DEVICE inline bool has_stopped(const Verdict& verdict, const LaneState& lane, int32_t block) {
  return verdict.emitted > 0 && !lane_runs(lane, block);
}

/// CPU implementation.
void keep_state(const KeepStateArgs& args);

}  // namespace cllm
