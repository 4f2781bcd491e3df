#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ggml_pointers.h"
#include "base/token.h"
#include "base/weight_filter.h"

struct llama_vocab;

namespace cllm {

struct LoadOptions {
  int gpu_layers = -1;
  bool mmap = true;
  bool pack_weights = true;
  /// Whether the CPU has products of our own for packed K-quants (products/product_set.h).
  bool has_k_products = false;
  /// Changes weights as they are packed, or null. Those that are not packed are given to it afterwards, by
  /// filter_unpacked() (llama/packed_buffer.h).
  WeightFilter* filter = nullptr;
  /// Metadata that take the place of the file's.
  std::map<std::string, std::string> notes;
};

struct ModelInfo {
  std::string description;
  std::string architecture;
  uint64_t parameter_count = 0;
  uint64_t file_size = 0;
  int vocab_size = 0;
  std::string vocab_type;
  int train_context_size = 0;
  int embedding_size = 0;
  int layer_count = 0;
  int head_count = 0;
  int head_count_kv = 0;
  Token bos = -1, eos = -1, eot = -1, nl = -1, pad = -1, sep = -1;
  bool add_bos = false, add_eos = false;
};

/// Loaded weights and vocabulary. All but one flag is immutable after construction, so every method may be called from
/// any thread.
///
/// Lifetime: the JS object and every Engine hold it by shared_ptr. llama.cpp's contexts point into the model, so the
/// weights may go only after the last context: the JS object's dispose() drops a reference and frees nothing itself.
class Model {
 public:
  /// Blocks while loading; call it on a thread of its own. `progress` gets 0..1 and returns false to stop.
  /// Throws Error: CLLM_MODEL_NOT_FOUND, CLLM_INVALID_MODEL, CLLM_UNSUPPORTED_MODEL, CLLM_ABORTED.
  Model(const std::string& path, const LoadOptions& options, const std::function<bool(float)>& progress);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  llama_model* handle() const { return model_.get(); }
  const ModelInfo& info() const { return info_; }

  std::map<std::string, std::string> metadata() const;
  std::optional<std::string> chat_template(const char* name) const;

  std::vector<Token> tokenize(std::string_view text, bool add_special, bool parse_special) const;
  std::string detokenize(const Token* tokens, size_t count, bool render_special) const;
  /// Appends the bytes of one token, which may hold a part of a UTF-8 character.
  void append_piece(Token token, bool render_special, std::string& out) const;
  std::string token_text(Token token) const;
  uint32_t token_attributes(Token token) const;
  /// [vocab] non-zero for tokens that end a generation
  const std::vector<uint8_t>& end_of_generation() const { return end_of_generation_; }

  /// Whether a forward pass has shown that ggml computes this model without failing an assertion
  /// (Context::prove_model).
  bool proved() const { return proved_.load(std::memory_order_relaxed); }
  void set_proved() const { proved_.store(true, std::memory_order_relaxed); }

  /// Why this model cannot be decoded token by token (encoders, diffusion models), or an empty string.
  std::string why_not_decodable() const;

 private:
  LlamaModelPointer model_;
  const llama_vocab* vocab_ = nullptr;
  ModelInfo info_;
  std::map<std::string, std::string> notes_;
  std::vector<uint8_t> end_of_generation_;
  mutable std::atomic<bool> proved_{false};
};

}  // namespace cllm
