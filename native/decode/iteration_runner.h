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

/// What one iteration did to one lane.
struct LaneOutcome {
  int index;
  const Iteration* iteration;  // valid until the runner's next run()
  const float* logits;         // [block, vocab], valid as long as `iteration`; may be null unless the lane wants_logits
};

/// What a runner did in up to `count` iterations.
struct Burst {
  PassResult result = PassResult::kOk;
  std::span<const LaneOutcome> outcomes;  // in the order they happened; none unless kOk
  double forward_milliseconds = 0;        // spent in forward passes
};

/// The Jacobi loop over some lanes. All of them have the same number of candidates and the same block size, so that
/// they share one forward pass of a fixed shape.
class IterationRunner {
 public:
  virtual ~IterationRunner() = default;
  /// Runs up to `count` iterations (one, if a lane wants logits); shape.lanes = lanes.size(). A lane that has
  /// ended, or whose budget is used up, takes no further part. Returns null where the runner cannot take these lanes
  /// now; nothing has happened to them then. Afterwards llama_decode may continue any of the lanes.
  virtual std::optional<Burst> run(std::span<const LaneWork> lanes, const PassShape& shape, int count) = 0;
};

}  // namespace cllm
