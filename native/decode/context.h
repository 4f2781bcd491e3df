#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/types.h"
#include "model/model.h"

struct llama_context;
struct llama_batch;
struct ggml_threadpool;

namespace cllm {

struct ContextOptions {
  int context_size = 4096;  // tokens per lane
  int lanes = 1;
  int block_size = 4;  // largest block
  int candidates = 1;  // most blocks verified per lane at once, by ResidentRunner
  int threads = 1;
  int prefill_chunk = 32;
  std::optional<bool> flash_attention;
  bool consistency_model = false;  // of a consistency LLM: Lane::expect_own_choices
  std::string kv_type = "f16";
  std::string runner = "auto";  // "auto" | "resident" | "host"
  int burst = 1;                // iterations that ResidentRunner runs before the host looks
};

// Tokens per pass: bounds the compute buffers when lanes x block is large.
inline constexpr int kLargestPass = 512;
// ggml's CPU attention rounds differently from 64 tokens of a stream on (GGML_FA_TILE_Q), and for a single one. Larger
// blocks run in equal parts of at most this many tokens (so never of one), and have the logits of small blocks.
inline constexpr int kLargestPart = 48;

/// What one lane contributes to a forward pass: `count` tokens at positions position .. position + count - 1.
struct Piece {
  int lane;
  int position;
  std::span<const Token> tokens;
};

enum class PassResult { kOk, kAborted, kFailed };

/// A llama.cpp context with one KV stream per lane (streams, because a unified cache perturbs the arithmetic by row
/// order), and the number of KV rows that each lane holds. Used by one thread at a time, the decode thread; only
/// request_abort() may come from another.
class Context {
 public:
  /// Throws Error CLLM_UNSUPPORTED_MODEL, CLLM_NOT_SUPPORTED, CLLM_OUT_OF_MEMORY, CLLM_INVALID_MODEL.
  Context(std::shared_ptr<const Model> model, const ContextOptions& options);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  llama_context* handle() const { return context_; }
  ggml_threadpool* threadpool() const { return threadpool_; }
  const Model& model() const { return *model_; }
  const ContextOptions& options() const { return options_; }
  uint64_t kv_bytes() const;

  /// KV rows that lane holds, written at positions 0 .. rows - 1.
  int rows(int lane) const { return rows_[lane]; }
  /// Forgets the rows from `keep` on. Where the model's memory cannot be rolled back, forgets all of them. Returns the
  /// rows that are left.
  int trim(int lane, int keep);
  /// Somebody else (GraphBridge) has taken cells of the lane up to `rows`: all beyond what the lane has confirmed is
  /// garbage, to be trimmed like a rejected draft before llama_decode continues the lane.
  void claimed(int lane, int rows) { rows_[lane] = rows; }
  /// Grows whenever the rows of the lane change, but not with claimed().
  uint64_t touches(int lane) const { return touches_[lane]; }
  /// Makes lane `to` a copy of lane `from`.
  void copy(int from, int to);

  /// One forward pass over all pieces; every token's logits when `logits` is true (pieces are then blocks, all of one
  /// size), else none. Trims each lane to its piece's position first. After a failure the lanes of the pass hold
  /// nothing. One llama_decode, but for blocks of 49 and more tokens and for more than 512 tokens in all.
  PassResult decode(std::span<const Piece> pieces, bool logits);
  /// Logits of the last pass, [tokens of all pieces in order, vocabulary], f32.
  float* logits() const { return logits_; }
  /// Milliseconds that the last pass spent inside llama.cpp.
  double pass_milliseconds() const { return pass_milliseconds_; }

  /// Makes the pass in flight return kAborted at its next graph node, and all later ones at once. For shutting down.
  void request_abort() { abort_.store(true, std::memory_order_relaxed); }

 private:
  void prove_model();
  PassResult run(std::span<const Piece> pieces, bool logits, std::string* reason = nullptr);
  PassResult run_in_parts(std::span<const Piece> pieces, int longest, int64_t total);
  PassResult forget_on_failure(std::span<const Piece> pieces, PassResult result);

  std::shared_ptr<const Model> model_;
  ContextOptions options_;
  ggml_threadpool* threadpool_ = nullptr;  // outlives context_, which computes on it
  llama_context* context_ = nullptr;
  std::unique_ptr<llama_batch> batch_;
  std::vector<int> rows_;
  std::vector<uint64_t> touches_;
  std::atomic<bool> abort_{false};
  double pass_milliseconds_ = 0;
  float* logits_ = nullptr;
  std::vector<float> collected_;  // logits of a pass that ran in parts
};

}  // namespace cllm
