#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "decode/lane.h"
#include "decode/token_rules.h"
#include "kernels/sampling.h"
#include "kernels/types.h"

namespace cllm {

// The commands that JavaScript sends to an Engine, and its answers. They are plain values, because they cross threads.

/// Where a request's drafts come from: a DraftMode, or null for the one that drafts better.
using DraftSource = std::optional<DraftMode>;

/// How the tokens of a request are chosen.
struct Choosing {
  Sampling sampling;
  std::shared_ptr<const std::vector<float>> bias;  // [vocab], added to the logits first, or null

  bool operator==(const Choosing&) const = default;
};

/// What every iteration of a request depends on.
struct DecodeParams {
  int block_size = 1;  // 0: the engine chooses one for each iteration
  uint32_t seed = 0;
  Choosing choosing;
  DraftSource draft_source;
};

struct GenerateParams : DecodeParams {
  int64_t max_tokens = 1;
  std::vector<std::string> stop;
  bool stream = false;
  bool render_special = false;
  std::shared_ptr<TokenRules> rules;  // null: none
  int logprobs = -1;                  // most probable tokens reported beside the chosen one; -1: no logprobs at all
};

/// Natural logarithms of probabilities. They come from the logits that the token was chosen from, after biases and
/// rules and before temperature.
struct Logprobs {
  float chosen = 0;
  std::vector<std::pair<Token, float>> top;  // the most probable first
};

struct IterateParams : DecodeParams {
  std::optional<std::vector<Token>> draft;  // block_size - 1 tokens
  bool logits = false;
};

struct Command {
  enum class Kind { kGenerate, kAbort, kOpenSequence, kCloseSequence, kPrefill, kIterate, kRollback, kFork };
  Kind kind;
  uint32_t id;                // events answer with it; for kAbort the id of the command to abort, not answered itself
  uint32_t sequence = 0;      // 0 = none
  std::vector<Token> tokens;  // kGenerate, kPrefill
  int position = 0;           // kRollback
  GenerateParams generate;
  IterateParams iterate;
};

/// See NativeStats in lib/addon.d.ts.
struct Stats {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t emitted_tokens = 0;
  int64_t iterations = 0;
  int64_t fast_forwarded_tokens = 0;
  int64_t stationary_tokens = 0;
  std::map<int, int64_t> block_sizes;  // iterations by block size
  std::map<int, int64_t> candidates;   // iterations by number of candidates
  double prefill_milliseconds = 0;
  double decode_milliseconds = 0;
  double forward_milliseconds = 0;
};

struct Event {
  enum class Type { kChunk, kDone, kSequence, kPrefilled, kIteration, kOk, kError };
  Type type;
  uint32_t id;
  std::string text;                 // kChunk, kDone; the message of kError
  std::vector<Token> tokens;        // kChunk, kDone, kSequence
  const char* reason = "";          // finish reason of kDone, code of kError
  Stats stats;                      // kDone
  std::vector<Logprobs> logprobs;   // kDone, of every token, if asked for
  uint32_t sequence = 0;            // kSequence
  int reused = 0, prefilled = 0;    // kPrefilled
  Iteration iteration;              // kIteration
  std::vector<float> logits;        // kIteration, if asked for
  double forward_milliseconds = 0;  // kIteration
};

}  // namespace cllm
