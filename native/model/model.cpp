#include "model/model.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "ggml-backend.h"
#include "gguf.h"
#include "llama.h"
#include "model/model_file.h"

namespace cllm {

namespace {

std::string vocab_type_name(enum llama_vocab_type type) {
  switch (type) {
    case LLAMA_VOCAB_TYPE_NONE: return "none";
    case LLAMA_VOCAB_TYPE_SPM: return "spm";
    case LLAMA_VOCAB_TYPE_BPE: return "bpe";
    case LLAMA_VOCAB_TYPE_WPM: return "wpm";
    case LLAMA_VOCAB_TYPE_UGM: return "ugm";
    case LLAMA_VOCAB_TYPE_RWKV: return "rwkv";
    case LLAMA_VOCAB_TYPE_PLAMO2: return "plamo2";
    default: return "other";
  }
}

// llama.cpp's string getters truncate and return the length that they need. So a second call gets the whole string.
template <typename Get>
std::optional<std::string> read_string(Get get) {
  char probe[256];
  const int32_t length = get(probe, sizeof(probe));
  if (length < 0) return std::nullopt;
  if (static_cast<size_t>(length) < sizeof(probe)) return std::string(probe, length);
  std::string text(static_cast<size_t>(length) + 1, '\0');
  get(text.data(), text.size());
  text.resize(length);
  return text;
}

std::optional<std::string> meta_value(const llama_model* model, const std::string& key) {
  return read_string([&](char* buf, size_t size) { return llama_model_meta_val_str(model, key.c_str(), buf, size); });
}

// llama.cpp may load a vocabulary that it cannot work with, such as one without the BOS that its tokenizer needs.
template <typename Call>
auto with_tokenizer(Call call) {
  try {
    GgmlGuard guard;
    return call();
  } catch (const std::exception& error) {
    throw Error("CLLM_INVALID_MODEL", std::string("The model's tokenizer failed: ") + error.what());
  }
}

// llama.cpp writes "?B" where it has no name for the model's size.
std::string with_size(std::string description, uint64_t parameters) {
  const size_t at = description.find("?B");
  if (at == std::string::npos) return description;
  const double millions = static_cast<double>(parameters) / 1e6;
  char size[32];
  std::snprintf(size, sizeof(size), millions < 1000 ? "%.1fM" : "%.1fB", millions < 1000 ? millions : millions / 1000);
  return description.replace(at, 2, size);
}

ModelInfo read_info(const llama_model* model, const llama_vocab* vocab) {
  ModelInfo info;
  info.description =
      read_string([&](char* buf, size_t size) { return llama_model_desc(model, buf, size); }).value_or("");
  info.architecture = meta_value(model, "general.architecture").value_or("");
  info.parameter_count = llama_model_n_params(model);
  info.description = with_size(std::move(info.description), info.parameter_count);
  info.file_size = llama_model_size(model);
  info.vocab_size = llama_vocab_n_tokens(vocab);
  info.vocab_type = vocab_type_name(llama_vocab_type(vocab));
  info.train_context_size = llama_model_n_ctx_train(model);
  info.embedding_size = llama_model_n_embd(model);
  info.layer_count = llama_model_n_layer(model);
  info.head_count = llama_model_n_head(model);
  info.head_count_kv = llama_model_n_head_kv(model);
  info.bos = llama_vocab_bos(vocab);
  info.eos = llama_vocab_eos(vocab);
  info.eot = llama_vocab_eot(vocab);
  info.nl = llama_vocab_nl(vocab);
  info.pad = llama_vocab_pad(vocab);
  info.sep = llama_vocab_sep(vocab);
  info.add_bos = llama_vocab_get_add_bos(vocab);
  info.add_eos = llama_vocab_get_add_eos(vocab);
  return info;
}

/// The GPU that a whole model goes to, or null where the binary or the machine has none.
ggml_backend_dev_t first_gpu() {
  for (const enum ggml_backend_dev_type type : {GGML_BACKEND_DEVICE_TYPE_GPU, GGML_BACKEND_DEVICE_TYPE_IGPU}) {
    if (ggml_backend_dev_t device = ggml_backend_dev_by_type(type)) return device;
  }
  return nullptr;
}

/// Whether the device can look up rows of the file's table of embeddings `name`, in the table's own type. False
/// where the file (the first part of a split model) has no such table.
bool looks_up(ggml_backend_dev_t device, const std::string& path, const char* name) {
  ggml_context* tensors_context = nullptr;
  const GgufPointer file(gguf_init_from_file(path.c_str(), {/*no_alloc=*/true, &tensors_context}));
  const GgmlContextPointer tensors(tensors_context);
  if (!file) return false;
  ggml_tensor* table = ggml_get_tensor(tensors.get(), name);
  if (table == nullptr) return false;
  const GgmlContextPointer scratch(ggml_init({ggml_tensor_overhead() * 4, nullptr, /*no_alloc=*/true}));
  ggml_tensor* ids = ggml_new_tensor_1d(scratch.get(), GGML_TYPE_I32, 1);
  return ggml_backend_dev_supports_op(device, ggml_get_rows(scratch.get(), table, ids));
}

/// The tables of embeddings that go to the GPU, as a list that ends with nulls. By itself llama.cpp keeps them in host
/// memory, and a pass would begin on the CPU. On the GPU a graph can run from token ids in device memory; with tied
/// weights the output shares the table. The list is empty unless all layers are on the GPU.
std::vector<llama_model_tensor_buft_override> embeddings_on_gpu(const std::string& path, int gpu_layers) {
  ggml_backend_dev_t gpu = gpu_layers < 0 ? first_gpu() : nullptr;
  if (gpu == nullptr) return {};
  std::vector<llama_model_tensor_buft_override> overrides;
  const GgmlGuard guard;
  for (const auto& [name, pattern] : {std::pair("token_embd.weight", "^token_embd\\.weight$"),
                                      std::pair("position_embd.weight", "^position_embd\\.weight$")}) {
    if (looks_up(gpu, path, name)) overrides.push_back({pattern, ggml_backend_dev_buffer_type(gpu)});
  }
  overrides.push_back({nullptr, nullptr});
  return overrides;
}

/// Whether ggml would repack weights of the file into a layout whose products depend on the number of columns. For
/// K-quants it computes four columns at a time by one kernel and the rest by another, which adds up in another order.
/// Our own products for K-quants come first where the CPU has them, but there are none for Q2_K.
bool repacks_inexactly(const std::set<uint32_t>& types, bool has_k_products) {
  if (types.contains(GGML_TYPE_Q2_K)) return true;
  return !has_k_products &&
         (types.contains(GGML_TYPE_Q4_K) || types.contains(GGML_TYPE_Q5_K) || types.contains(GGML_TYPE_Q6_K));
}

/// llama.cpp's loader returns null for every failure, even where progress returns false; `cancelled` tells.
struct LoadProgress {
  const std::function<bool(float)>& report;
  bool cancelled = false;

  static bool callback(float fraction, void* data) {
    auto* self = static_cast<LoadProgress*>(data);
    if (!self->cancelled && !self->report(fraction)) self->cancelled = true;
    return !self->cancelled;
  }
};

struct FilterScope {
  explicit FilterScope(WeightFilter* filter) { weight_filter = filter; }
  ~FilterScope() { weight_filter = nullptr; }
  FilterScope(const FilterScope&) = delete;
  FilterScope& operator=(const FilterScope&) = delete;
};

/// The error for a file that llama.cpp refused for `reason`.
Error load_failure(const std::string& path, const std::string& reason) {
  const auto says = [&](const char* text) { return reason.find(text) != std::string::npos; };
  const char* code = says("unknown model architecture") ? "CLLM_UNSUPPORTED_MODEL"
                     : says("unable to allocate")       ? "CLLM_OUT_OF_MEMORY"
                                                        : "CLLM_INVALID_MODEL";
  return Error(code, "Expected a model that llama.cpp can load but " + path +
                         " failed: " + (reason.empty() ? "no reason given" : reason));
}

LlamaModelPointer load(const std::string& path, const LoadOptions& options, const std::set<uint32_t>& types,
                       const std::function<bool(float)>& progress) {
  llama_model_params params = llama_model_default_params();
  params.n_gpu_layers = options.gpu_layers;
  // One GPU holds the whole model, since the device loop runs on one stream. With gpuLayers 0 there must be none at
  // all, or llama.cpp would still send it the large products. Without a GPU this has no effect.
  params.split_mode = LLAMA_SPLIT_MODE_NONE;
  params.main_gpu = options.gpu_layers == 0 ? -1 : 0;
  const auto overrides = embeddings_on_gpu(path, options.gpu_layers);
  if (!overrides.empty()) params.tensor_buft_overrides = overrides.data();
  params.use_extra_bufts = options.pack_weights && !repacks_inexactly(types, options.has_k_products);
  // What is mapped cannot be changed.
  params.load_mode = options.mmap && options.filter == nullptr ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
  LoadProgress state{progress};
  params.progress_callback_user_data = &state;
  params.progress_callback = LoadProgress::callback;
  clear_last_log_error();
  LlamaModelPointer model;
  try {
    const GgmlGuard guard;
    const FilterScope scope(options.filter);
    model.reset(llama_model_load_from_file(path.c_str(), params));
  } catch (const GgmlAbort& abort) {
    throw load_failure(path, abort.what());
  }
  if (state.cancelled) throw Error("CLLM_ABORTED", "Loading " + path + " was aborted");
  if (!model) throw load_failure(path, take_last_log_error());
  return model;
}

}  // namespace

Model::Model(const std::string& path, const LoadOptions& options, const std::function<bool(float)>& progress)
    : notes_(options.notes) {
  std::set<uint32_t> types;
  if (const auto problem = check_model_file(path, &types)) throw Error(problem->code, problem->message);
  model_ = load(path, options, types, progress);
  vocab_ = llama_model_get_vocab(handle());
  info_ = read_info(handle(), vocab_);
  end_of_generation_.resize(static_cast<size_t>(info_.vocab_size));
  for (Token token = 0; token < info_.vocab_size; token++) {
    end_of_generation_[static_cast<size_t>(token)] = llama_vocab_is_eog(vocab_, token);
  }
}

std::map<std::string, std::string> Model::metadata() const {
  std::map<std::string, std::string> result;
  const int count = llama_model_meta_count(handle());
  for (int i = 0; i < count; i++) {
    const auto key =
        read_string([&](char* buf, size_t size) { return llama_model_meta_key_by_index(handle(), i, buf, size); });
    const auto value =
        read_string([&](char* buf, size_t size) { return llama_model_meta_val_str_by_index(handle(), i, buf, size); });
    if (key) result[*key] = value.value_or("");
  }
  for (const auto& [key, value] : notes_) result[key] = value;
  return result;
}

std::optional<std::string> Model::chat_template(const char* name) const {
  const char* text = llama_model_chat_template(handle(), name);
  if (text == nullptr) return std::nullopt;
  return std::string(text);
}

std::vector<Token> Model::tokenize(std::string_view text, bool add_special, bool parse_special) const {
  if (info_.vocab_type == "none") throw Error("CLLM_NOT_SUPPORTED", "This model has no tokenizer: pass token ids");
  if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw Error("CLLM_NOT_SUPPORTED", "Expected a text of less than 2 GiB");
  }
  const int32_t length = static_cast<int32_t>(text.size());
  std::vector<Token> tokens(text.size() + 2);
  const auto run = [&] {
    return llama_tokenize(vocab_, text.data(), length, tokens.data(), static_cast<int32_t>(tokens.size()), add_special,
                          parse_special);
  };
  int32_t count = with_tokenizer(run);
  if (count < 0) {
    tokens.resize(static_cast<size_t>(-static_cast<int64_t>(count)));
    count = with_tokenizer(run);
  }
  tokens.resize(static_cast<size_t>(std::max(count, 0)));
  return tokens;
}

std::string Model::detokenize(const Token* tokens, size_t count, bool render_special) const {
  if (info_.vocab_type == "none" || count == 0) return "";
  std::string text(count * 8 + 16, '\0');
  const auto run = [&] {
    return llama_detokenize(vocab_, tokens, static_cast<int32_t>(count), text.data(), static_cast<int32_t>(text.size()),
                            false, render_special);
  };
  int32_t length = with_tokenizer(run);
  if (length < 0) {
    text.resize(static_cast<size_t>(-static_cast<int64_t>(length)));
    length = with_tokenizer(run);
  }
  text.resize(static_cast<size_t>(std::max(length, 0)));
  return text;
}

void Model::append_piece(Token token, bool render_special, std::string& out) const {
  if (info_.vocab_type == "none") return;
  char small[128];
  const int32_t length = llama_token_to_piece(vocab_, token, small, sizeof(small), 0, render_special);
  if (length >= 0) {
    out.append(small, static_cast<size_t>(length));
    return;
  }
  std::string large(static_cast<size_t>(-static_cast<int64_t>(length)), '\0');
  const int32_t written =
      llama_token_to_piece(vocab_, token, large.data(), static_cast<int32_t>(large.size()), 0, render_special);
  if (written > 0) out.append(large.data(), static_cast<size_t>(written));
}

std::string Model::token_text(Token token) const {
  if (info_.vocab_type == "none") return "";
  const char* text = llama_vocab_get_text(vocab_, token);
  return text == nullptr ? "" : text;
}

uint32_t Model::token_attributes(Token token) const {
  return info_.vocab_type == "none" ? 0 : static_cast<uint32_t>(llama_vocab_get_attr(vocab_, token));
}

std::string Model::why_not_decodable() const {
  if (llama_model_has_encoder(handle())) return "it has an encoder";
  if (!llama_model_has_decoder(handle())) return "it has no decoder";
  if (llama_model_is_diffusion(handle())) return "it is a diffusion model";
  if (meta_value(handle(), info_.architecture + ".attention.causal").value_or("true") == "false") {
    return "its attention is not causal (an embedding model)";
  }
  // Its graph writes over the logits of image tokens in the first row of a pass, and fails where a pass has no logits.
  if (info_.architecture == "chameleon") return "llama.cpp hides its image tokens in the first row of a pass only";
  return "";
}

}  // namespace cllm
