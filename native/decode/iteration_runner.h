#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "decode/command.h"
#include "decode/context.h"
#include "decode/lane.h"

namespace cllm {

/// What a runner is asked to do with a lane for the length of a burst.
struct LaneWork {
  int index;         // of the lane in its Context
  Lane* lane;        // written() == position()
  uint64_t seed;     // of random drafts
  int64_t budget;    // tokens that may still be emitted, >= 1
  bool stop_at_end;  // stop at end-of-generation tokens
  bool wants_logits = false;
  Choosing choosing = {};
  DraftMode draft_mode = kDraftRandom;
  TokenRules* rules = nullptr;  // only HostRunner takes lanes with rules
};

/// What one iteration did to one lane. The pointers are valid during the call that gets it.
struct LaneOutcome {
  int index;
  const Iteration* iteration;
  const float* logits;  // [block, vocab]; may be null unless the lane wants_logits
  /// What the host spent on the iteration's forward pass; on a GPU, on enqueueing it and the kernels. Where the device
  /// does several iterations by itself, the first has it all.
  double forward_milliseconds;
};

/// Is told what a burst does while it goes on.
class BurstObserver {
 public:
  virtual ~BurstObserver() = default;
  /// A lane has done an iteration. Returns whether the runner may go on with the lane; if not, the burst leaves its
  /// Lane as it is from now on.
  virtual bool took(const LaneOutcome& outcome) = 0;
  /// All lanes have done an iteration. Returns whether the burst may go on.
  virtual bool iterated() = 0;
};

/// The Jacobi loop over some lanes. All of them have the same number of candidates and the same block size, so that
/// they share one forward pass of a fixed shape.
class IterationRunner {
 public:
  virtual ~IterationRunner() = default;
  /// Runs up to `count` iterations (one, if a lane wants logits); shape.lanes = lanes.size(). A lane that has
  /// ended, or whose budget is used up, takes no further part. Returns null where the runner cannot take these lanes
  /// now; nothing has happened to them then. Afterwards llama_decode may continue any of the lanes.
  virtual std::optional<PassResult> run(std::span<const LaneWork> lanes, const PassShape& shape, int count,
                                        BurstObserver& observer) = 0;
};

}  // namespace cllm
