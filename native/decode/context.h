#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/ggml_pointers.h"
#include "decode/thread_governor.h"
#include "kernels/types.h"
#include "llama/lane_states.h"
#include "llama/model_memory.h"
#include "llama/window_rows.h"
#include "model/model.h"

namespace cllm {

struct ContextOptions {
  int context_size = 4096;  // tokens per lane
  int lanes = 1;
  int block_size = 4;  // tokens of a block, at most
  int candidates = 1;  // blocks that ResidentRunner verifies per lane at once, at most
  int threads = 1;
  int prefill_chunk = 0;  // prompt tokens of a pass, at most; 0: what suits model and CPU
  std::optional<bool> flash_attention;
  bool consistency_model = false;  // see Lane::expect_consistency
  std::string kv_type = "f16";
  bool swa_full = false;        // layers with a sliding window keep the rows of the whole context
  std::string runner = "auto";  // "auto" | "resident" | "host"
  int burst = 1;                // iterations that ResidentRunner does in one go
};

/// The tokens that one lane contributes to a forward pass.
struct LaneTokens {
  int index;     // index of the lane
  int position;  // position of tokens[0]
  std::span<const Token> tokens;
};

/// The error for a context that llama.cpp could not create. What it logged, `reason`, decides the code.
Error context_failure(const std::string& reason);

enum class PassResult { kOk, kAborted, kFailed };

/// A llama.cpp context with one KV stream per lane (streams, because a unified cache perturbs the arithmetic by row
/// order), and the number of KV rows that each lane holds. One thread at a time uses it, the decode thread; only
/// request_abort() may be called on another.
class Context {
 public:
  /// Throws Error CLLM_UNSUPPORTED_MODEL, CLLM_NOT_SUPPORTED, CLLM_OUT_OF_MEMORY, CLLM_INVALID_MODEL.
  Context(std::shared_ptr<const Model> model, const ContextOptions& options);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  llama_context* handle() const { return context_.get(); }
  ggml_threadpool* threadpool() const { return threadpool_.get(); }
  const Model& model() const { return *model_; }
  const ContextOptions& options() const { return options_; }
  /// Whether passes of any length write the same KV rows, so that a prompt may be read in passes of any length.
  bool any_chunk() const { return any_chunk_; }
  /// Tokens of a forward pass over blocks, at most.
  int max_pass_tokens() const;
  const ModelMemory& model_memory() const { return model_memory_; }
  /// Bytes of the KV caches and the recurrent states, and of the latter alone.
  uint64_t memory_bytes() const;
  uint64_t state_bytes() const { return model_memory_.state_bytes * options_.lanes * (1 + snapshots()); }
  /// Tokens that a lane can go back from the end of its last pass without being read again; negative: any number.
  int max_rollback() const;

  /// KV rows that the lane holds, written at positions 0 .. rows - 1.
  int rows(int lane) const { return rows_[lane]; }
  /// Forgets the rows from `keep` on. Where the model's memory cannot go back that far, forgets all of them. Returns
  /// how many rows remain.
  int trim(int lane, int keep);
  /// Notes that GraphBridge has taken cells of the lane up to `rows`. Whatever lies beyond the lane's confirmed rows is
  /// garbage, to be trimmed like a rejected draft before llama_decode continues the lane.
  void claimed(int lane, int rows) { rows_[lane] = rows; }
  /// Notes that rows of positions up to `end` have been written to cells of a claim.
  void wrote(int lane, int end) {
    if (window_) window_->taken(lane, end);
  }
  /// Grows whenever the rows of the lane change, but not with claimed().
  uint64_t touches(int lane) const { return touches_[lane]; }
  /// Null where the model has no recurrent state.
  LaneStates* states() { return states_.get(); }
  /// Forgets all of the lane.
  void clear(int lane);
  /// Makes lane `to` a copy of lane `from`.
  void copy(int from, int to);

  /// Runs one forward pass over the tokens of all lanes. It makes every token's logits when `logits` is true (the lanes
  /// then have blocks of one size), else none. Each lane is trimmed to its tokens' position first. After a failure the
  /// lanes of the pass hold nothing. It is one llama_decode, unless blocks have more than kMaxPartTokens tokens or the
  /// pass more than max_pass_tokens().
  PassResult decode(std::span<const LaneTokens> lanes, bool logits);
  /// Logits of the last pass, [tokens of all lanes in order, vocabulary], f32.
  float* logits() const { return logits_; }
  /// Milliseconds that the last pass spent inside llama.cpp.
  double pass_milliseconds() const { return pass_milliseconds_; }

  /// Chooses the threads of the next pass.
  ThreadGovernor& governor() { return governor_; }

  /// Makes the pass in flight return kAborted at its next graph node, and all later ones at once. For shutting down.
  void request_abort() { abort_.store(true, std::memory_order_relaxed); }

 private:
  int64_t block_tokens() const;
  void create_context();
  int snapshots() const;
  void prove_model();
  PassResult run(std::span<const LaneTokens> lanes, bool logits, int threads);
  PassResult run_in_parts(std::span<const LaneTokens> lanes, int longest_block, int64_t total);
  PassResult forget_on_failure(std::span<const LaneTokens> lanes, PassResult result);

  std::shared_ptr<const Model> model_;
  ContextOptions options_;
  ModelMemory model_memory_;
  ThreadpoolPointer threadpool_;  // outlives context_, which computes on it
  LlamaContextPointer context_;
  std::unique_ptr<LaneStates> states_;  // null where the model has no recurrent state
  std::unique_ptr<WindowRows> window_;  // null where no layer has a cache of the window's size
  BatchPointer batch_;
  std::vector<int> rows_;
  std::vector<uint64_t> touches_;
  ThreadGovernor governor_;
  bool any_chunk_ = false;
  std::atomic<bool> abort_{false};
  double pass_milliseconds_ = 0;
  uint64_t frees_ = 0;  // cuda_frees() at the last pass
  float* logits_ = nullptr;
  std::vector<float> collected_logits_;  // logits of a pass that ran in parts
};

}  // namespace cllm
