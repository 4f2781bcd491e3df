#pragma once

#include <compare>
#include <cstdint>

#include "base/host_device.h"
#include "base/token.h"
#include "kernels/place_index.h"

namespace cllm {

/// The shape of one forward pass of the device loop: B lanes, C candidate blocks each (candidate 0 is the lane's own
/// block), n tokens a block. 1 <= B, 1 <= C <= kMaxCandidates, 1 <= n <= kMaxBlockSize. "Row" r = (b * C + c) * n + j
/// of the pass is token j of candidate c of lane b.
struct PassShape {
  int32_t lanes = 1;
  int32_t candidates = 1;
  int32_t block = 1;

  CLLM_HOST_DEVICE int64_t rows() const { return static_cast<int64_t>(lanes) * candidates * block; }
  auto operator<=>(const PassShape&) const = default;
};

/// A lane's state between iterations, in device memory. The host writes it when the lane joins; `advance` keeps it.
struct LaneState {
  int32_t position = 0;        // p, the position of x[0], whose KV row is not yet written
  int32_t row_end = 0;         // the lane may write KV rows below this one; a recurrent one that has stopped, this one
  int32_t budget = 0;          // tokens that may still be emitted, >= 0
  int32_t stop_at_end = 0;     // 1: an end-of-generation token ends the lane
  int32_t ended = 0;           // 1 once the lane has emitted such a token
  int32_t prompt_size = 0;     // >= 1: random drafts are drawn from the first prompt_size tokens
  int32_t draft_mode = 0;      // a DraftMode
  int32_t index_bits = 0;      // PlaceIndex::bits of the lane's index
  Token* tokens = nullptr;     // [row_end + 1]: the confirmed tokens, tokens[position] = x[0]; `advance` appends
  int32_t* latest = nullptr;   // PlaceIndex::latest, of the places of tokens[0 .. position]
  int32_t* earlier = nullptr;  // PlaceIndex::earlier, [row_end + 1, kMaxKeyLength]
  uint64_t seed = 0;           // seed of random drafts

  CLLM_HOST_DEVICE PlaceIndex index() const { return {latest, earlier, index_bits}; }
};

/// Whether the lane takes part in the next iteration. A lane that takes no part keeps all its inputs, so running the
/// graph again rewrites its KV rows with the values they hold.
CLLM_HOST_DEVICE inline bool lane_runs(const LaneState& lane, int32_t block) {
  return lane.budget > 0 && lane.ended == 0 && lane.position + block <= lane.row_end;
}

/// What `verify` finds for one lane. All fields but position are zero when the lane does not run.
struct Verdict {
  int32_t position = 0;    // p of the iteration
  int32_t winner = 0;      // candidate with the most accepted tokens; ties go to the lowest, so to the lane's own block
  int32_t accepted = 0;    // m, 0 <= m <= n - 1
  int32_t emitted = 0;     // 1 <= emitted <= m + 1; 0 when the lane does not run
  int32_t stationary = 0;  // stationary tokens among the emitted drafts, see count_stationary
  int32_t ended = 0;       // 1 when the last emitted token ends the lane
};
/// A verdict in the ring.
constexpr int32_t kVerdictWords = sizeof(Verdict) / sizeof(int32_t);

}  // namespace cllm
