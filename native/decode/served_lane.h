#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "decode/command.h"
#include "decode/generation.h"
#include "decode/lane.h"

namespace cllm {

/// A lane of an Engine and the requests that it serves.
struct ServedLane {
  int index = 0;  // of the lane in its Context
  Lane lane;
  uint32_t sequence = 0;  // handle of the sequence that holds the lane, 0 = none
  std::optional<Generation> generation;
  std::optional<Command> operation;  // a kPrefill or kIterate in progress
  int reused = 0;                    // rows that were written before the kPrefill in progress
  std::deque<Command> queue;         // the sequence's further commands, in order
  uint64_t last_used = 0;            // grows with every generation and sequence

  bool busy() const { return generation || operation; }
  bool free() const { return sequence == 0 && !busy(); }

  // Only while it is busy:
  const DecodeParams& params() const {
    return generation ? static_cast<const DecodeParams&>(generation->params) : operation->iterate;
  }
  /// A lane with rules runs on the host, with one candidate: its tokens are chosen one after another.
  TokenRules* rules() const { return generation ? generation->params.rules.get() : nullptr; }
};

}  // namespace cllm
