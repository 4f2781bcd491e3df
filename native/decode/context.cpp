#include "decode/context.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "base/limits.h"
#include "base/threadpool.h"
#include "llama/packed_buffer.h"
#ifdef CLLM_CUDA
#include "llama/cuda_stream.h"
#endif

namespace cllm {

namespace {

ggml_type kv_type_of(const std::string& name) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0,
                               GGML_TYPE_Q4_1, GGML_TYPE_IQ4_NL, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1}) {
    if (name == ggml_type_name(type)) return type;
  }
  throw Error("CLLM_NOT_SUPPORTED", "Expected a KV cache type that llama.cpp has but received " + name);
}

// These architectures look up their position in a table as long as the context they were trained on, and ggml ends the
// process on a position beyond it. (Only some MPT models do; the others, with ALiBi, are held to the same limit.)
bool has_learned_positions(const std::string& architecture) {
  return architecture == "gpt2" || architecture == "starcoder" || architecture == "mpt";
}

Error undecodable(const ModelInfo& info, const std::string& reason) {
  return Error("CLLM_UNSUPPORTED_MODEL",
               "Expected a decoder-only language model but " + info.description + " cannot be decoded: " + reason);
}

void check_model(const Model& model, const ModelMemory& memory, const ContextOptions& options) {
  const ModelInfo& info = model.info();
  const std::string refusal = model.why_not_decodable();
  if (!refusal.empty()) throw undecodable(info, refusal);
  const int max_block = memory.max_rollback < 0 ? kMaxBlockSize : memory.max_rollback + 1;
  if (options.block_size > max_block) {
    throw Error("CLLM_UNSUPPORTED_MODEL", "Expected a blockSize of at most " + std::to_string(max_block) + " for " +
                                              info.description + " but received " + std::to_string(options.block_size) +
                                              ": its recurrent state cannot be rolled back over more rejected drafts");
  }
  // Its graph writes the states of several lanes behind those of the first one's place, over the states of others.
  if (info.architecture == "plamo2" && options.lanes > 1) {
    throw Error("CLLM_NOT_SUPPORTED", "Expected 1 lane for " + info.description + " but received " +
                                          std::to_string(options.lanes) +
                                          ": llama.cpp v0.5.0 mixes the states of its lanes up");
  }
  if (has_learned_positions(info.architecture) && options.context_size > info.train_context_size) {
    throw Error("CLLM_NOT_SUPPORTED", "Expected a contextSize of at most " + std::to_string(info.train_context_size) +
                                          " for " + info.description + " but received " +
                                          std::to_string(options.context_size) + ": its positions are a learned table");
  }
}

// The cells of all lanes' streams. Candidates beyond the lane's own block have rows of their own behind the context,
// and so has a lane with a recurrent state (LaneState::row_end).
uint32_t cells_of(const ContextOptions& options, bool recurrent) {
  const int64_t scratch = std::max<int64_t>(
      recurrent ? 1 : 0, std::min<int64_t>(int64_t{options.candidates - 1} * options.block_size, kMaxPartTokens));
  const int64_t cells = padded_cells(options.context_size + scratch) * options.lanes;
  if (cells > INT32_MAX) throw Error("CLLM_OUT_OF_MEMORY", "Expected lanes x contextSize below 2^31 tokens");
  return static_cast<uint32_t>(cells);
}

}  // namespace

Error context_failure(const std::string& reason) {
  const auto says = [&](const char* text) { return reason.find(text) != std::string::npos; };
  const char* code = says("lacks a tensor") ? "CLLM_INVALID_MODEL"
                     : says("alloc")        ? "CLLM_OUT_OF_MEMORY"
                     : says("GGML_ASSERT")  ? "CLLM_UNSUPPORTED_MODEL"
                                            : "CLLM_NOT_SUPPORTED";
  return Error(code, "llama.cpp could not create a context: " + (reason.empty() ? "no reason given" : reason));
}

Context::Context(std::shared_ptr<const Model> model, const ContextOptions& options)
    : model_(std::move(model)),
      options_(options),
      model_memory_(memory_of(model_->handle())),
      rows_(static_cast<size_t>(options.lanes), 0),
      touches_(rows_.size(), 0),
      governor_(options.threads, static_cast<int>(std::thread::hardware_concurrency())) {
  check_model(*model_, model_memory_, options);
  // Candidates have rows behind the context, which a cache of the window's size has no place for.
  if (options.candidates > 1) options_.swa_full = true;
  const bool choose_chunk = options.prefill_chunk == 0;
  // A lone token, which is padded elsewhere, would be computed by other kernels than two or more.
  const int rollback = model_memory_.max_rollback;
  const bool pads = rollback < 0 || (rollback > 0 && options.block_size > 1);
  const bool may_be_ours =
      pads && packed_weights(model_->handle()) > 0 && options.kv_type == "f16" && options.flash_attention != false;
  if (choose_chunk) options_.prefill_chunk = may_be_ours ? kLongPrefillChunk : kExactPrefillChunk;
  create_context();
  any_chunk_ = may_be_ours && rows_are_independent(context_.get());
  if (choose_chunk && !any_chunk_ && options_.prefill_chunk > kExactPrefillChunk) {
    options_.prefill_chunk = kExactPrefillChunk;
    create_context();
  }
  window_ = WindowRows::of(context_.get(), options.lanes);
  if (!window_ && model_memory_.window > 0 && !options_.swa_full) {
    // The window is no smaller than the context, or llama.cpp keeps its rows in a memory of another kind.
    options_.swa_full = true;
    create_context();
  }
  // Other attention splits the cells of a lone token among the threads, so its sums would depend on their number.
  if (!any_chunk_) governor_.use_all();
  states_ = LaneStates::of(context_.get(), options.lanes);
  batch_.reset(new llama_batch(llama_batch_init(static_cast<int32_t>(llama_n_batch(context_.get())), 0, 1)));
  if (!model_->proved()) {
    prove_model();
    model_->set_proved();
  }
  threadpool_ = make_threadpool(options.threads);
  llama_attach_threadpool(context_.get(), threadpool_.get(), threadpool_.get());
}

int Context::max_pass_tokens() const {
  return model_memory_.window > 0 && !options_.swa_full ? kMaxWindowPassTokens : kMaxPassTokens;
}

// A pass carries blocks of lanes, in parts if need be, or one lane's prefill chunk (a lone token is padded to two). So
// llama.cpp never has to split a pass, which it would cut into parts of any size.
int64_t Context::block_tokens() const {
  const int64_t most = max_pass_tokens();
  const bool has_window = most == kMaxWindowPassTokens;  // whose cache has the same number of cells for all decoders
  const int64_t blocks = has_window ? most : std::min<int64_t>(int64_t{options_.lanes} * options_.block_size, most);
  // Where there are snapshots, llama.cpp asks for a token more than they hold.
  return std::max<int64_t>({blocks, 2, options_.block_size + 2});
}

void Context::create_context() {
  const auto outputs = static_cast<uint32_t>(block_tokens());
  const uint32_t pass_tokens = std::max(outputs, static_cast<uint32_t>(options_.prefill_chunk));
  llama_context_params params = llama_context_default_params();
  params.n_ctx = cells_of(options_, model_memory_.max_rollback > 0);
  params.n_seq_max = static_cast<uint32_t>(options_.lanes);
  params.n_rs_seq = static_cast<uint32_t>(snapshots());
  params.n_batch = pass_tokens;
  params.n_ubatch = pass_tokens;
  params.n_outputs_max = std::max(outputs, static_cast<uint32_t>(options_.lanes));
  params.n_threads = options_.threads;
  params.n_threads_batch = options_.threads;
  params.kv_unified = false;
  params.swa_full = options_.swa_full;
  params.no_perf = true;
  params.type_k = kv_type_of(options_.kv_type);
  params.type_v = params.type_k;
  params.flash_attn_type = !options_.flash_attention   ? LLAMA_FLASH_ATTN_TYPE_AUTO
                           : *options_.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED
                                                       : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.abort_callback_data = this;
  params.abort_callback = [](void* data) {
    return static_cast<Context*>(data)->abort_.load(std::memory_order_relaxed);
  };
  clear_last_log_error();
  context_.reset();  // two contexts at once may not fit
  try {
    GgmlGuard guard;
    context_.reset(llama_init_from_model(model_->handle(), params));
  } catch (const GgmlAbort& abort) {
    throw context_failure(abort.what());
  }
  if (context_ == nullptr) throw context_failure(take_last_log_error());
  if (llama_get_memory(context_.get()) == nullptr) {
    throw undecodable(model_->info(), "it remembers nothing of the tokens before (an embedding model)");
  }
}

// Runs a pass on this thread alone, where a failed assertion of ggml can be caught: on ggml's compute threads it would
// end the process. The pass finds what no check of the file foresees in some hundred architectures. It runs once per
// model, before the pool exists.
void Context::prove_model() {
  const Token tokens[2] = {0, 0};
  const LaneTokens lane{0, 0, std::span<const Token>(tokens, max_rollback() != 0 ? 2 : 1)};
  if (run({&lane, 1}, true, 1) != PassResult::kOk) {
    throw Error("CLLM_INVALID_MODEL", "Expected a model that llama.cpp can compute but " + model_->info().description +
                                          " failed: " + take_last_log_error());
  }
  trim(0, 0);
}

// The first token of a block is always kept, so a lane goes back by one token less than a block has. The resident
// runner needs a plane more, which no pass over a block writes.
int Context::snapshots() const {
  if (model_memory_.max_rollback <= 0) return 0;
  const bool has_attention = model_memory_.kv_bytes_per_token + model_memory_.windowed_kv_bytes_per_token > 0;
  const bool may_be_resident = options_.runner != "host" && has_attention;
  return options_.block_size - (may_be_resident ? 0 : 1);
}

uint64_t Context::memory_bytes() const { return cllm::memory_bytes(context_.get()); }

int Context::max_rollback() const {
  if (states_) return model_memory_.max_rollback > 0 ? options_.block_size - 1 : 0;
  return window_ ? window_->max_rollback() : -1;
}

int Context::trim(int lane, int keep) {
  if (rows_[lane] <= keep) return rows_[lane];
  touches_[lane]++;
  const bool can_go_back = keep > 0 && (window_ == nullptr || window_->holds(lane, keep)) &&
                           (states_ == nullptr || states_->roll_back(lane, keep));
  if (!can_go_back || !llama_memory_seq_rm(llama_get_memory(context_.get()), lane, keep, -1)) {
    clear(lane);
    return 0;
  }
  rows_[lane] = keep;
  return keep;
}

void Context::clear(int lane) {
  llama_memory_seq_rm(llama_get_memory(context_.get()), lane, -1, -1);
  if (states_) states_->cleared(lane);
  if (window_) window_->cleared(lane);
  rows_[lane] = 0;
  touches_[lane]++;
}

void Context::copy(int from, int to) {
  trim(to, 0);
  touches_[to]++;
  if (rows_[from] == 0) return;
  if (states_ == nullptr) {
    llama_memory_seq_cp(llama_get_memory(context_.get()), from, to, -1, -1);
  } else if (!states_->copy(from, to)) {
    return;
  }
  if (window_) window_->copied(from, to);
  rows_[to] = rows_[from];
}

PassResult Context::decode(std::span<const LaneTokens> lanes, bool logits) {
  for (const LaneTokens& lane : lanes) {
    if (trim(lane.index, lane.position) != lane.position) return PassResult::kFailed;
  }
  pass_milliseconds_ = 0;
  collected_logits_.clear();
  if (!logits) return forget_on_failure(lanes, run(lanes, false, governor_.threads()));

  int64_t total = 0;
  int longest_block = 0;
  for (const LaneTokens& lane : lanes) {
    total += static_cast<int64_t>(lane.tokens.size());
    longest_block = std::max(longest_block, static_cast<int>(lane.tokens.size()));
  }
  if (longest_block <= kMaxPartTokens && total <= max_pass_tokens()) {
    const PassResult result = forget_on_failure(lanes, run(lanes, true, governor_.threads()));
    logits_ = result == PassResult::kOk ? llama_get_logits(context_.get()) : nullptr;
    return result;
  }
  return forget_on_failure(lanes, run_in_parts(lanes, longest_block, total));
}

// Runs every lane's block in the same number of equal parts, and as many lanes at a time as a pass may carry. llama.cpp
// overwrites its logits with every call, so they are collected.
PassResult Context::run_in_parts(std::span<const LaneTokens> lanes, int longest_block, int64_t total) {
  const auto vocab = static_cast<size_t>(model_->info().vocab_size);
  collected_logits_.resize(static_cast<size_t>(total) * vocab);
  logits_ = collected_logits_.data();
  const int parts = (longest_block + kMaxPartTokens - 1) / kMaxPartTokens;
  const int longest_part = (longest_block + parts - 1) / parts;
  const size_t lanes_per_pass = std::max<size_t>(1, static_cast<size_t>(max_pass_tokens() / longest_part));
  for (size_t first = 0; first < lanes.size(); first += lanes_per_pass) {
    const auto group = lanes.subspan(first, std::min(lanes_per_pass, lanes.size() - first));
    for (int part = 0; part < parts; part++) {
      std::vector<LaneTokens> batch;
      std::vector<size_t> rows;  // row of the collected logits at which each lane's part begins
      size_t row = 0;
      for (const LaneTokens& lane : lanes.first(first)) row += lane.tokens.size();
      for (const LaneTokens& lane : group) {
        const size_t begin = lane.tokens.size() * static_cast<size_t>(part) / static_cast<size_t>(parts);
        const size_t end = lane.tokens.size() * static_cast<size_t>(part + 1) / static_cast<size_t>(parts);
        batch.push_back({lane.index, lane.position + static_cast<int>(begin), lane.tokens.subspan(begin, end - begin)});
        rows.push_back(row + begin);
        row += lane.tokens.size();
      }
      const PassResult result = run(batch, true, governor_.threads());
      if (result != PassResult::kOk) return result;
      const float* from = llama_get_logits(context_.get());
      for (size_t i = 0; i < batch.size(); i++) {
        const size_t count = batch[i].tokens.size() * vocab;
        std::copy(from, from + count, collected_logits_.begin() + static_cast<std::ptrdiff_t>(rows[i] * vocab));
        from += count;
      }
    }
  }
  return PassResult::kOk;
}

// Runs one llama_decode.
PassResult Context::run(std::span<const LaneTokens> lanes, bool logits, int threads) {
  llama_batch& batch = *batch_;
  batch.n_tokens = 0;
  for (const LaneTokens& lane : lanes) {
    for (size_t i = 0; i < lane.tokens.size(); i++) {
      const int row = batch.n_tokens++;
      batch.token[row] = lane.tokens[i];
      batch.pos[row] = lane.position + static_cast<int>(i);
      batch.n_seq_id[row] = 1;
      batch.seq_id[row][0] = lane.index;
      batch.logits[row] = logits;
    }
  }
  if (window_) {
    for (const LaneTokens& lane : lanes) window_->place_next(lane.index, lane.position);
  }
  int status = -1;
  clear_last_log_error();
  llama_set_n_threads(context_.get(), threads, threads);
  begin_pass();
  const auto started = std::chrono::steady_clock::now();
  try {
    GgmlGuard guard;
#ifdef CLLM_CUDA
    drop_stale_cuda_graphs(context_.get(), frees_);
#endif
    status = llama_decode(context_.get(), batch);
    if (status == 0) llama_synchronize(context_.get());
  } catch (const std::exception& error) {
    status = -3;  // GgmlAbort, bad_alloc: treated as llama.cpp's own "fatal" status
    set_last_log_error(error.what());
  }
  const double milliseconds =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
  pass_milliseconds_ += milliseconds;
  // A pass without logits is another kind; the proof of a model runs on one thread.
  if (status == 0 && threads == governor_.threads()) {
    governor_.observe(logits ? batch.n_tokens : -batch.n_tokens, milliseconds);
  }
  if (status != 0) return status == 2 ? PassResult::kAborted : PassResult::kFailed;
  for (const LaneTokens& lane : lanes) {
    rows_[lane.index] = lane.position + static_cast<int>(lane.tokens.size());
    touches_[lane.index]++;
    if (states_) states_->passed(lane.index, lane.position, rows_[lane.index]);
    if (window_) window_->taken(lane.index, rows_[lane.index]);
  }
  return PassResult::kOk;
}

// Parts of a failed pass may have been written, so nothing of its lanes can be trusted.
PassResult Context::forget_on_failure(std::span<const LaneTokens> lanes, PassResult result) {
  if (result != PassResult::kOk) {
    for (const LaneTokens& lane : lanes) clear(lane.index);
  }
  return result;
}

}  // namespace cllm
