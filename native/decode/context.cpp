#include "decode/context.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "llama.h"

namespace cllm {

namespace {

constexpr int kRowPadding = 256;  // llama.cpp rounds a stream up to this many cells
// How long idle compute threads poll for the next graph before they sleep, in ggml's unit of 131072 pauses (about 2
// ms). Long enough to bridge the gap between two iterations, short enough to leave the core to the event loop after
// that.
constexpr uint32_t kPoll = 1;

ggml_type kv_type_of(const std::string& name) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0,
                               GGML_TYPE_Q4_1, GGML_TYPE_IQ4_NL, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1}) {
    if (name == ggml_type_name(type)) return type;
  }
  throw Error("CLLM_NOT_SUPPORTED", "Expected a KV cache type that llama.cpp has but received " + name);
}

// These look up their position in a table as long as the context they were trained on, and ggml ends the process on a
// position beyond it. (Of MPT models only some do; the others, with ALiBi, are held to the same limit.)
bool has_learned_positions(const std::string& architecture) {
  return architecture == "gpt2" || architecture == "starcoder" || architecture == "mpt";
}

}  // namespace

Context::Context(std::shared_ptr<const Model> model, const ContextOptions& options)
    : model_(std::move(model)),
      options_(options),
      rows_(static_cast<size_t>(options.lanes), 0),
      touches_(rows_.size(), 0) {
  const std::string refusal = model_->why_not_decodable();
  if (!refusal.empty()) {
    throw Error("CLLM_UNSUPPORTED_MODEL", "Expected a decoder-only language model but " + model_->info().description +
                                              " cannot be decoded: " + refusal);
  }
  if (!model_->info().can_roll_back && options.block_size > 1) {
    throw Error("CLLM_UNSUPPORTED_MODEL", "Expected a blockSize of 1 for " + model_->info().description +
                                              ": its recurrent state cannot be rolled back over rejected drafts");
  }
  if (has_learned_positions(model_->info().architecture) && options.context_size > model_->info().train_context_size) {
    throw Error("CLLM_NOT_SUPPORTED", "Expected a contextSize of at most " +
                                          std::to_string(model_->info().train_context_size) + " for " +
                                          model_->info().description + " but received " +
                                          std::to_string(options.context_size) + ": its positions are a learned table");
  }
  const int64_t block_tokens = static_cast<int64_t>(options.lanes) * options.block_size;
  // Candidates beyond the lane's own block have rows of their own behind the context.
  const int64_t scratch = std::min<int64_t>(int64_t{options.candidates - 1} * options.block_size, kLargestPart);
  const int64_t stream = (options.context_size + scratch + kRowPadding - 1) / kRowPadding * kRowPadding;
  const int64_t cells = stream * options.lanes;
  if (cells > INT32_MAX) throw Error("CLLM_OUT_OF_MEMORY", "Expected lanes x contextSize below 2^31 tokens");

  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(cells);
  params.n_seq_max = static_cast<uint32_t>(options.lanes);
  // A pass carries blocks of lanes, in parts if need be, or one lane's prefill chunk (a lone token is padded to two).
  // llama.cpp never has to split it: it would leave parts of any size.
  const int64_t largest = std::max<int64_t>({std::min<int64_t>(block_tokens, kLargestPass), options.prefill_chunk, 2});
  params.n_batch = static_cast<uint32_t>(largest);
  params.n_ubatch = static_cast<uint32_t>(largest);
  params.n_outputs_max = static_cast<uint32_t>(std::max<int64_t>(largest, options.lanes));
  params.n_threads = options.threads;
  params.n_threads_batch = options.threads;
  params.kv_unified = false;
  // A sliding-window cache overwrites rows that a rollback needs again: keep all of them.
  params.swa_full = true;
  params.no_perf = true;
  params.type_k = kv_type_of(options.kv_type);
  params.type_v = params.type_k;
  params.flash_attn_type = !options.flash_attention   ? LLAMA_FLASH_ATTN_TYPE_AUTO
                           : *options.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED
                                                      : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.abort_callback_data = this;
  params.abort_callback = [](void* data) {
    return static_cast<Context*>(data)->abort_.load(std::memory_order_relaxed);
  };
  clear_last_log_error();
  try {
    GgmlGuard guard;
    context_ = llama_init_from_model(model_->handle(), params);
  } catch (const GgmlAbort& abort) {
    throw Error("CLLM_UNSUPPORTED_MODEL", std::string("llama.cpp refused to create a context: ") + abort.what());
  }
  if (context_ == nullptr) {
    const std::string reason = take_last_log_error();
    const bool memory = reason.find("alloc") != std::string::npos;
    throw Error(memory ? "CLLM_OUT_OF_MEMORY" : "CLLM_NOT_SUPPORTED",
                "llama.cpp could not create a context: " + (reason.empty() ? "no reason given" : reason));
  }
  batch_ = std::make_unique<llama_batch>(llama_batch_init(static_cast<int32_t>(largest), 0, 1));
  if (!model_->proved()) {
    try {
      prove_model();
    } catch (...) {
      llama_batch_free(*batch_);
      llama_free(context_);
      throw;
    }
    model_->set_proved();
  }
  // Without a pool of its own ggml would start and join its threads for every single graph.
  ggml_threadpool_params pool = ggml_threadpool_params_default(options.threads);
  pool.poll = kPoll;
  threadpool_ = ggml_threadpool_new(&pool);
  if (threadpool_ != nullptr) llama_attach_threadpool(context_, threadpool_, threadpool_);
}

// A pass on this thread alone, where a failed assertion of ggml can be caught: on its compute threads it ends the
// process. For what no check of the file foresees, in some hundred architectures. Once per model, before the pool
// exists.
void Context::prove_model() {
  const Token tokens[2] = {0, 0};
  const Piece piece{0, 0, std::span<const Token>(tokens, model_->info().can_roll_back ? 2 : 1)};
  llama_set_n_threads(context_, 1, 1);
  std::string reason;
  const PassResult result = run({&piece, 1}, true, &reason);
  if (result != PassResult::kOk) {
    throw Error("CLLM_INVALID_MODEL", "Expected a model that llama.cpp can compute but " + model_->info().description +
                                          " failed: " + (reason.empty() ? take_last_log_error() : reason));
  }
  llama_set_n_threads(context_, options_.threads, options_.threads);
  trim(0, 0);
}

Context::~Context() {
  if (batch_) llama_batch_free(*batch_);
  if (context_ != nullptr) llama_free(context_);
  if (threadpool_ != nullptr) ggml_threadpool_free(threadpool_);
}

uint64_t Context::kv_bytes() const {
  const int64_t cells = static_cast<int64_t>(llama_n_ctx(context_));
  const ggml_type type = kv_type_of(options_.kv_type);
  // kv_bytes_per_token counts two bytes an element.
  const double element = static_cast<double>(ggml_type_size(type)) / static_cast<double>(ggml_blck_size(type));
  return static_cast<uint64_t>(static_cast<double>(cells) * model_->info().kv_bytes_per_token / 2 * element);
}

int Context::trim(int lane, int keep) {
  if (rows_[lane] <= keep) return rows_[lane];
  touches_[lane]++;
  llama_memory_t memory = llama_get_memory(context_);
  if (keep == 0 || !llama_memory_seq_rm(memory, lane, keep, -1)) {
    llama_memory_seq_rm(memory, lane, -1, -1);
    keep = 0;
  }
  rows_[lane] = keep;
  return keep;
}

void Context::copy(int from, int to) {
  trim(to, 0);
  touches_[to]++;
  if (rows_[from] == 0) return;
  llama_memory_seq_cp(llama_get_memory(context_), from, to, -1, -1);
  rows_[to] = rows_[from];
}

PassResult Context::decode(std::span<const Piece> pieces, bool logits) {
  for (const Piece& piece : pieces) {
    if (trim(piece.lane, piece.position) != piece.position) return PassResult::kFailed;
  }
  pass_milliseconds_ = 0;
  collected_.clear();
  if (!logits) return forget_on_failure(pieces, run(pieces, false));

  int64_t total = 0;
  int longest = 0;
  for (const Piece& piece : pieces) {
    total += static_cast<int64_t>(piece.tokens.size());
    longest = std::max(longest, static_cast<int>(piece.tokens.size()));
  }
  if (longest <= kLargestPart && total <= kLargestPass) {
    const PassResult result = forget_on_failure(pieces, run(pieces, true));
    logits_ = result == PassResult::kOk ? llama_get_logits(context_) : nullptr;
    return result;
  }
  return forget_on_failure(pieces, run_in_parts(pieces, longest, total));
}

// Every lane's block in the same number of equal parts, and as many lanes at a time as a pass may carry. llama.cpp
// overwrites its logits with every call, so they are collected.
PassResult Context::run_in_parts(std::span<const Piece> pieces, int longest, int64_t total) {
  const auto vocab = static_cast<size_t>(model_->info().vocab_size);
  collected_.resize(static_cast<size_t>(total) * vocab);
  logits_ = collected_.data();
  const int parts = (longest + kLargestPart - 1) / kLargestPart;
  const size_t lanes = std::max<size_t>(1, static_cast<size_t>(kLargestPass / ((longest + parts - 1) / parts)));
  for (size_t first = 0; first < pieces.size(); first += lanes) {
    const auto group = pieces.subspan(first, std::min(lanes, pieces.size() - first));
    for (int part = 0; part < parts; part++) {
      std::vector<Piece> batch;
      std::vector<size_t> rows;  // of the collected logits, where each piece's part begins
      size_t row = 0;
      for (const Piece& piece : pieces.first(first)) row += piece.tokens.size();
      for (const Piece& piece : group) {
        const size_t begin = piece.tokens.size() * static_cast<size_t>(part) / static_cast<size_t>(parts);
        const size_t end = piece.tokens.size() * static_cast<size_t>(part + 1) / static_cast<size_t>(parts);
        batch.push_back(
            {piece.lane, piece.position + static_cast<int>(begin), piece.tokens.subspan(begin, end - begin)});
        rows.push_back(row + begin);
        row += piece.tokens.size();
      }
      const PassResult result = run(batch, true);
      if (result != PassResult::kOk) return result;
      const float* from = llama_get_logits(context_);
      for (size_t i = 0; i < batch.size(); i++) {
        const size_t count = batch[i].tokens.size() * vocab;
        std::copy(from, from + count, collected_.begin() + static_cast<std::ptrdiff_t>(rows[i] * vocab));
        from += count;
      }
    }
  }
  return PassResult::kOk;
}

// One llama_decode.
PassResult Context::run(std::span<const Piece> pieces, bool logits, std::string* reason) {
  llama_batch& batch = *batch_;
  batch.n_tokens = 0;
  for (const Piece& piece : pieces) {
    for (size_t i = 0; i < piece.tokens.size(); i++) {
      const int at = batch.n_tokens++;
      batch.token[at] = piece.tokens[i];
      batch.pos[at] = piece.position + static_cast<int>(i);
      batch.n_seq_id[at] = 1;
      batch.seq_id[at][0] = piece.lane;
      batch.logits[at] = logits;
    }
  }
  const auto started = std::chrono::steady_clock::now();
  int status = -1;
  clear_last_log_error();
  try {
    GgmlGuard guard;
    status = llama_decode(context_, batch);
    if (status == 0) llama_synchronize(context_);
  } catch (const std::exception& error) {
    status = -3;  // GgmlAbort, bad_alloc: treated as llama.cpp's own "fatal" status
    if (reason != nullptr) *reason = error.what();
  }
  pass_milliseconds_ += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
  if (status != 0) return status == 2 ? PassResult::kAborted : PassResult::kFailed;
  for (const Piece& piece : pieces) {
    rows_[piece.lane] = piece.position + static_cast<int>(piece.tokens.size());
    touches_[piece.lane]++;
  }
  return PassResult::kOk;
}

// Parts of a failed pass may have been written: nothing of its lanes can be trusted.
PassResult Context::forget_on_failure(std::span<const Piece> pieces, PassResult result) {
  if (result == PassResult::kOk) return result;
  for (const Piece& piece : pieces) {
    llama_memory_seq_rm(llama_get_memory(context_), piece.lane, -1, -1);
    rows_[piece.lane] = 0;
    touches_[piece.lane]++;
  }
  return result;
}

}  // namespace cllm
