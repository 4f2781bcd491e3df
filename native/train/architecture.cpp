#include "train/architecture.h"

#include <map>
#include <optional>
#include <set>

#include "base/error.h"
#include "ggml.h"

namespace cllm {

namespace {

[[noreturn]] void unsupported(const std::string& what) {
  throw Error("CLLM_UNSUPPORTED_MODEL", "Training supports " + std::string(kTrainable) + ", but " + what);
}

class Metadata {
 public:
  Metadata(const gguf_context* file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  std::optional<int64_t> integer(const char* key) const {
    const int64_t id = gguf_find_key(file_, (prefix_ + key).c_str());
    if (id < 0) return std::nullopt;
    switch (gguf_get_kv_type(file_, id)) {
      case GGUF_TYPE_UINT32: return gguf_get_val_u32(file_, id);
      case GGUF_TYPE_INT32: return gguf_get_val_i32(file_, id);
      case GGUF_TYPE_UINT64: return static_cast<int64_t>(gguf_get_val_u64(file_, id));
      default: unsupported(prefix_ + key + " of this model is not one integer for all layers");
    }
  }

  int positive(const char* key) const {
    const auto value = integer(key);
    if (!value) throw Error("CLLM_INVALID_MODEL", "The model file lacks " + prefix_ + key);
    if (*value < 1 || *value > INT32_MAX) {
      throw Error("CLLM_INVALID_MODEL",
                  "Expected a positive " + prefix_ + key + " but found " + std::to_string(*value));
    }
    return static_cast<int>(*value);
  }

  int positive(const char* key, int fallback) const { return integer(key) ? positive(key) : fallback; }

  float number(const char* key, float fallback) const {
    const int64_t id = gguf_find_key(file_, (prefix_ + key).c_str());
    if (id < 0) return fallback;
    if (gguf_get_kv_type(file_, id) != GGUF_TYPE_FLOAT32) unsupported(prefix_ + key + " of this model is not a float");
    return gguf_get_val_f32(file_, id);
  }

  std::string text(const char* key, const char* fallback) const {
    const int64_t id = gguf_find_key(file_, (prefix_ + key).c_str());
    if (id < 0 || gguf_get_kv_type(file_, id) != GGUF_TYPE_STRING) return fallback;
    return gguf_get_val_str(file_, id);
  }

 private:
  const gguf_context* file_;
  std::string prefix_;
};

using Shape = std::vector<int64_t>;

std::map<std::string, Shape> required_tensors(const Architecture& a) {
  const int64_t width = a.width, q = int64_t(a.heads) * a.head_size, kv = int64_t(a.kv_heads) * a.head_size;
  std::map<std::string, Shape> tensors{{"token_embd.weight", {width, a.vocab}}, {"output_norm.weight", {width}}};
  if (!a.tied) tensors["output.weight"] = {width, a.vocab};
  for (int layer = 0; layer < a.layers; layer++) {
    const auto add = [&](const char* part, Shape shape) { tensors[layer_tensor(layer, part)] = std::move(shape); };
    add("attn_norm.weight", {width});
    add("attn_q.weight", {width, q});
    add("attn_k.weight", {width, kv});
    add("attn_v.weight", {width, kv});
    add("attn_output.weight", {q, width});
    add("ffn_norm.weight", {width});
    add("ffn_gate.weight", {width, a.hidden});
    add("ffn_up.weight", {width, a.hidden});
    add("ffn_down.weight", {a.hidden, width});
    if (a.name == "qwen3") {
      add("attn_q_norm.weight", {a.head_size});
      add("attn_k_norm.weight", {a.head_size});
    }
    if (a.name == "qwen2") {
      add("attn_q.bias", {q});
      add("attn_k.bias", {kv});
      add("attn_v.bias", {kv});
    }
  }
  return tensors;
}

void check_tensors(const gguf_context* file, const Architecture& a) {
  auto required = required_tensors(a);
  for (int64_t i = 0; i < gguf_get_n_tensors(file); i++) {
    const std::string name = gguf_get_tensor_name(file, i);
    if (name == "rope_freqs.weight") continue;
    const auto found = required.find(name);
    if (found == required.end()) unsupported("this model has a tensor " + name + " that the trainer does not know");
    const int64_t* ne = gguf_get_tensor_ne(file, i);
    const Shape& shape = found->second;
    for (size_t d = 0; d < GGML_MAX_DIMS; d++) {
      if (ne[d] != (d < shape.size() ? shape[d] : 1)) {
        throw Error("CLLM_INVALID_MODEL", "The tensor " + name + " does not have the shape that the metadata give");
      }
    }
    required.erase(found);
  }
  if (!required.empty())
    throw Error("CLLM_INVALID_MODEL", "The model file lacks the tensor " + required.begin()->first);
}

}  // namespace

std::string layer_tensor(int layer, const char* part) { return "blk." + std::to_string(layer) + "." + part; }

Architecture read_architecture(const gguf_context* file) {
  Architecture a;
  a.name = Metadata(file, "").text("general.architecture", "");
  if (a.name != "llama" && a.name != "qwen2" && a.name != "qwen3") unsupported("this model is a " + a.name);
  const Metadata meta(file, a.name + ".");
  if (meta.integer("expert_count").value_or(0) > 0) unsupported("this model is a mixture of experts");
  a.layers = meta.positive("block_count");
  a.width = meta.positive("embedding_length");
  a.hidden = meta.positive("feed_forward_length");
  a.heads = meta.positive("attention.head_count");
  a.kv_heads = meta.positive("attention.head_count_kv", a.heads);
  a.head_size = meta.positive("attention.key_length", a.width / a.heads);
  a.context = meta.positive("context_length");
  a.norm_epsilon = meta.number("attention.layer_norm_rms_epsilon", 1e-5f);
  a.rope_base = meta.number("rope.freq_base", 10000.0f);
  a.rope_dims = meta.positive("rope.dimension_count", a.head_size);
  a.rope_mode = a.name == "llama" ? GGML_ROPE_TYPE_NORMAL : GGML_ROPE_TYPE_NEOX;
  if (a.heads % a.kv_heads != 0)
    throw Error("CLLM_INVALID_MODEL", "The head count is no multiple of the KV head count");
  if (meta.positive("attention.value_length", a.head_size) != a.head_size) {
    unsupported("keys and values of this model differ in size");
  }
  if (a.rope_dims > a.head_size || a.rope_dims % 2 != 0) {
    throw Error("CLLM_INVALID_MODEL", "Expected an even rope.dimension_count of at most the head size");
  }
  if (meta.integer("attention.sliding_window").value_or(0) > 0) unsupported("this model has sliding-window attention");
  const std::string scaling = meta.text("rope.scaling.type", "none");
  if (scaling == "linear") {
    a.rope_scale = 1 / meta.number("rope.scaling.factor", 1);
  } else if (scaling != "none") {
    unsupported("this model scales its positions by " + scaling);
  }
  const int64_t embedding = gguf_find_tensor(file, "token_embd.weight");
  if (embedding < 0) throw Error("CLLM_INVALID_MODEL", "The model file lacks the tensor token_embd.weight");
  a.vocab = static_cast<int>(gguf_get_tensor_ne(file, embedding)[1]);
  a.tied = gguf_find_tensor(file, "output.weight") < 0;
  check_tensors(file, a);
  return a;
}

}  // namespace cllm
