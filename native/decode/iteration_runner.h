#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "decode/command.h"
#include "decode/context.h"
#include "decode/lane.h"

namespace cllm {

/// A lane as a runner sees it for the length of a burst.
struct LaneRun {
  int index;         // of the lane in its Context
  Lane* lane;        // written() == tokens().size() - 1
  uint64_t seed;     // of random drafts
  int64_t budget;    // tokens that may still be emitted, >= 1
  bool stop_at_end;  // stop at end-of-generation tokens
  bool wants_logits = false;
  Choosing choosing = {};
  DraftMode draft_mode = kDraftRandom;
  TokenRules* rules = nullptr;  // a lane with rules is HostRunner's
};

/// What one iteration did to one lane.
struct LaneOutcome {
  int index;
  const Iteration* iteration;  // valid until the next iterate()
  const float* logits;         // [block, vocab] of the lane's block, valid as long; may be null unless it wants_logits
};

/// The Jacobi loop over some lanes: begin -> (iterate -> poll)* -> end. While a burst lasts, nobody else may decode the
/// lanes it holds; others may be prefilled between iterations. All lanes of a burst have as many candidates and tokens
/// a block, so that they share one forward pass of a fixed shape.
class IterationRunner {
 public:
  virtual ~IterationRunner() = default;
  virtual const char* name() const = 0;
  /// Why this runner and no other is in use, one line for decoder.info.
  virtual std::string reason() const = 0;

  /// False where the runner cannot take these lanes now; nothing has happened to them then. shape.lanes = lanes.size().
  virtual bool begin(std::span<const LaneRun> lanes, const PassShape& shape) = 0;
  /// Runs up to `count` iterations (one, if a lane wants logits). A lane whose budget is used up or that has ended
  /// takes part no more.
  virtual PassResult iterate(int count) = 0;
  /// The outcomes that have become known since the last poll, in the order they happened.
  virtual std::span<const LaneOutcome> poll() = 0;
  /// Gives the lanes back: afterwards llama_decode may continue any of them.
  virtual void end() = 0;
  /// Milliseconds that the last iterate() spent in forward passes.
  virtual double forward_milliseconds() const = 0;
};

}  // namespace cllm
