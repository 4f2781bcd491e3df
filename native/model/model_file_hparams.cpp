#include <algorithm>
#include <cmath>
#include <string_view>

#include "gguf.h"
#include "model/model_file_checks.h"

namespace cllm {

namespace {

// Values of an integer key, which may also be an array with one value per layer.
std::vector<int64_t> integers_of(const gguf_context* gguf, const std::string& key) {
  const int64_t id = gguf_find_key(gguf, key.c_str());
  if (id < 0) return {};
  if (gguf_get_kv_type(gguf, id) != GGUF_TYPE_ARRAY) return {integer_key(gguf, key, 0)};
  const gguf_type type = gguf_get_arr_type(gguf, id);
  if (type != GGUF_TYPE_UINT32 && type != GGUF_TYPE_INT32) return {};
  const auto* data = static_cast<const int32_t*>(gguf_get_arr_data(gguf, id));
  return {data, data + gguf_get_arr_n(gguf, id)};
}

// Ranges of the sizes that llama.cpp computes with before it has compared them with the tensors. Within
// these ranges its arithmetic is safe, and every published model fits. All keys are checked, whatever the architecture.
constexpr struct {
  const char* key;
  int64_t minimum, maximum;
} kRanges[] = {
    {"block_count", 1, 512},
    {"context_length", 1, INT32_MAX},
    {"embedding_length", 1, 1 << 20},
    {"embedding_length_out", 1, 1 << 20},
    {"embedding_length_per_layer_input", 0, 1 << 20},
    {"feed_forward_length", 0, 1 << 24},
    {"expert_feed_forward_length", 0, 1 << 24},
    {"expert_shared_feed_forward_length", 0, 1 << 24},
    {"expert_chunk_feed_forward_length", 0, 1 << 24},
    {"leading_dense_block_count", 0, 512},
    {"nextn_predict_layers", 0, 512},
    {"decoder_block_count", 1, 512},
    {"n_deepstack_layers", 0, 512},
    {"attention.head_count", 0, 1 << 14},
    {"attention.head_count_kv", 0, 1 << 14},
    {"attention.key_length", 1, 1 << 16},
    {"attention.value_length", 1, 1 << 16},
    {"attention.key_length_swa", 1, 1 << 16},
    {"attention.value_length_swa", 1, 1 << 16},
    {"attention.key_length_mla", 0, 1 << 16},
    {"attention.value_length_mla", 0, 1 << 16},
    {"attention.q_lora_rank", 0, 1 << 20},
    {"attention.kv_lora_rank", 0, 1 << 20},
    {"attention.sliding_window", 0, INT32_MAX},
    {"attention.shared_kv_layers", 0, 512},
    {"attention.relative_buckets_count", 0, 1 << 16},
    {"attention.group_norm_groups", 1, 1 << 16},
    {"attention.indexer.head_count", 0, 1 << 14},
    {"attention.indexer.key_length", 0, 1 << 16},
    {"attention.indexer.top_k", 0, 1 << 24},
    {"rope.dimension_count", 0, 1 << 16},
    {"rope.dimension_count_swa", 0, 1 << 16},
    {"rope.scaling.original_context_length", 0, INT32_MAX},
    {"expert_count", 0, 1024},
    {"expert_used_count", 0, 1024},
    {"expert_group_count", 0, 1024},
    {"expert_group_used_count", 0, 1024},
    {"experts_per_group", 1, 1024},
    {"full_attention_interval", 1, 512},
    {"interleave_moe_layer_step", 0, 512},
    {"vocab_size", 1, 1 << 22},
    {"ssm.conv_kernel", 1, 1 << 10},
    {"ssm.inner_size", 1, 1 << 20},
    {"ssm.state_size", 1, 1 << 16},
    {"ssm.time_step_rank", 1, 1 << 20},
    {"ssm.group_count", 0, 1 << 16},
    {"shortconv.l_cache", 1, 1 << 10},
    {"kda.head_dim", 1, 1 << 16},
    {"wkv.head_size", 1, 1 << 16},
    {"token_shift_count", 0, 16},
};

// ggml's normalisations assert that epsilon is not negative, on their compute threads.
constexpr const char* kEpsilons[] = {"attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon",
                                     "attention.group_norm_epsilon", "hyper_connection.epsilon"};

// The loaders of these architectures divide by the number of used experts where there is no expert_feed_forward_length.
// Both may be arrays, of which they take the first layer's values.
constexpr std::string_view kDividesByExperts[] = {"qwen2moe",  "qwen3moe", "qwen3vlmoe", "qwen3next",
                                                  "qwen35moe", "qwen4exp", "glm4moe",    "rnd1",
                                                  "llada-moe", "mellum",   "grovemoe"};
// These take each layer's own values, and only where there are experts and the layer is a feed-forward network.
constexpr std::string_view kDividesInLayers[] = {"nemotron_h", "nemotron_h_moe"};

// The loaders of these architectures divide by the number of heads in the first layer.
constexpr std::string_view kDividesByHeads[] = {"olmo2", "phimoe", "gemma2", "gemma3", "deepseek2", "deepseek2-ocr"};

// These architectures rotate by several axes and need to know which sections of a head belong to each.
constexpr std::string_view kNeedsSections[] = {"qwen2vl",   "qwen3vl",  "qwen3vlmoe", "qwen35",
                                               "qwen35moe", "qwen4exp", "paddleocr"};

template <size_t N>
bool contains(const std::string_view (&names)[N], const std::string& name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

Problem check_ranges(const std::string& path, const gguf_context* gguf, const std::string& architecture) {
  for (const auto& range : kRanges) {
    const std::string key = architecture + "." + range.key;
    for (const int64_t value : integers_of(gguf, key)) {
      if (value >= range.minimum && value <= range.maximum) continue;
      return invalid(path, "has " + key + " = " + std::to_string(value) + ", expected " +
                               std::to_string(range.minimum) + " to " + std::to_string(range.maximum));
    }
  }
  for (const char* name : kEpsilons) {
    const std::string key = architecture + "." + name;
    const int64_t id = gguf_find_key(gguf, key.c_str());
    if (id < 0 || gguf_get_kv_type(gguf, id) != GGUF_TYPE_FLOAT32) continue;
    const float value = gguf_get_val_f32(gguf, id);
    if (!(value >= 0) || !std::isfinite(value)) {
      return invalid(path, "has " + key + " = " + std::to_string(value) + ", expected 0 or more");
    }
  }
  return std::nullopt;
}

Problem check_heads(const std::string& path, const gguf_context* gguf, const std::string& architecture) {
  const auto key = [&](const char* name) { return architecture + "." + name; };
  const int64_t embedding = integer_key(gguf, key("embedding_length"), 0);
  const std::vector<int64_t> heads = integers_of(gguf, key("attention.head_count"));
  const std::vector<int64_t> heads_kv = integers_of(gguf, key("attention.head_count_kv"));
  const int64_t key_length = integer_key(gguf, key("attention.key_length"), 0);
  if (contains(kDividesByHeads, architecture) && (heads.empty() || heads.front() == 0)) {
    return invalid(path, "does not say its " + key("attention.head_count"));
  }
  for (size_t i = 0; i < heads.size(); i++) {
    const std::string at = key("attention.head_count") + " = " + std::to_string(heads[i]);
    if (heads[i] > 0 && key_length == 0 && (embedding < heads[i] || embedding % heads[i] != 0)) {
      return invalid(path, "has " + at + ", which does not divide its embedding_length " + std::to_string(embedding));
    }
    const int64_t kv = heads_kv.empty() ? heads[i] : heads_kv[std::min(i, heads_kv.size() - 1)];
    if (kv > 0 && heads[i] % kv != 0) {
      return invalid(path, "has " + at + ", which its head_count_kv " + std::to_string(kv) + " does not divide");
    }
  }
  // The rotation asserts on compute threads that it fits into a head, pair by pair.
  const int64_t head = key_length > 0                        ? key_length
                       : !heads.empty() && heads.front() > 0 ? embedding / heads.front()
                                                             : 0;
  const struct {
    const char* key;
    int64_t head;
  } rotations[] = {{"rope.dimension_count", head},
                   {"rope.dimension_count_swa", integer_key(gguf, key("attention.key_length_swa"), head)}};
  for (const auto& rotation : rotations) {
    const int64_t rotated = integer_key(gguf, key(rotation.key), 0);
    if (rotation.head > 0 && (rotated > rotation.head || rotated % 2 != 0)) {
      return invalid(path, "has " + key(rotation.key) + " = " + std::to_string(rotated) + " for heads of " +
                               std::to_string(rotation.head));
    }
  }
  const std::vector<int64_t> sections = integers_of(gguf, key("rope.dimension_sections"));
  int64_t sum = 0;
  for (const int64_t section : sections) {
    if (section < 0 || section > (1 << 16)) return invalid(path, "has senseless " + key("rope.dimension_sections"));
    sum += section;
  }
  const bool has_sections =
      std::any_of(sections.begin(), sections.begin() + std::min<std::ptrdiff_t>(3, sections.size()),
                  [](int64_t section) { return section > 0; });
  if ((head > 0 && sum > head) || (!has_sections && contains(kNeedsSections, architecture))) {
    return invalid(path,
                   "has " + key("rope.dimension_sections") + " that do not fit its heads of " + std::to_string(head));
  }
  return std::nullopt;
}

Problem check_experts(const std::string& path, const gguf_context* gguf, const std::string& architecture) {
  const bool in_layers = contains(kDividesInLayers, architecture);
  if (!in_layers && !contains(kDividesByExperts, architecture)) return std::nullopt;
  if (in_layers && integer_key(gguf, architecture + ".expert_count", 0) == 0) return std::nullopt;
  const auto layers_of = [&](const char* key) { return integers_of(gguf, architecture + "." + key); };
  // A single value holds for every layer.
  const auto at = [](const std::vector<int64_t>& values, size_t layer) {
    return values.empty() ? 0 : values[values.size() == 1 ? 0 : std::min(layer, values.size() - 1)];
  };
  const std::vector<int64_t> sizes = layers_of("feed_forward_length");
  const std::vector<int64_t> expert_sizes = layers_of("expert_feed_forward_length");
  const std::vector<int64_t> used = layers_of("expert_used_count");
  const int64_t layers = in_layers ? integer_key(gguf, architecture + ".block_count", 1) : 1;
  for (size_t layer = 0; layer < static_cast<size_t>(layers); layer++) {
    if (in_layers && at(sizes, layer) == 0) continue;
    if (at(expert_sizes, layer) > 0 || at(used, layer) > 0) continue;
    return invalid(path, "does not say its " + architecture + ".expert_used_count");
  }
  return std::nullopt;
}

}  // namespace

int64_t integer_key(const gguf_context* gguf, const std::string& key, int64_t fallback) {
  const int64_t id = gguf_find_key(gguf, key.c_str());
  if (id < 0) return fallback;
  switch (gguf_get_kv_type(gguf, id)) {
    case GGUF_TYPE_UINT8: return gguf_get_val_u8(gguf, id);
    case GGUF_TYPE_INT8: return gguf_get_val_i8(gguf, id);
    case GGUF_TYPE_UINT16: return gguf_get_val_u16(gguf, id);
    case GGUF_TYPE_INT16: return gguf_get_val_i16(gguf, id);
    case GGUF_TYPE_UINT32: return gguf_get_val_u32(gguf, id);
    case GGUF_TYPE_INT32: return gguf_get_val_i32(gguf, id);
    case GGUF_TYPE_INT64: return gguf_get_val_i64(gguf, id);
    case GGUF_TYPE_UINT64: return static_cast<int64_t>(std::min<uint64_t>(gguf_get_val_u64(gguf, id), INT64_MAX));
    default: return fallback;
  }
}

Problem check_hparams(const std::string& path, const gguf_context* gguf, const std::string& architecture) {
  if (const Problem problem = check_ranges(path, gguf, architecture)) return problem;
  // Mamba 2 and its hybrids divide by the group count; PLaMo 2 writes 0 and does not use it.
  if (architecture != "plamo2" && integer_key(gguf, architecture + ".ssm.group_count", 1) == 0) {
    return invalid(path, "has " + architecture + ".ssm.group_count = 0");
  }
  if (const Problem problem = check_heads(path, gguf, architecture)) return problem;
  return check_experts(path, gguf, architecture);
}

}  // namespace cllm
