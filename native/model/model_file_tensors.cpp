#include <algorithm>
#include <filesystem>
#include <iterator>
#include <string_view>

#include "ggml-cpu.h"
#include "ggml.h"
#include "gguf.h"
#include "model/model_file_checks.h"

namespace cllm {

namespace {

// ggml's CPU operators meet a type they lack only while computing, on threads where nothing can catch their abort; or
// they call a function pointer that is null. So a tensor must have a type that its operator reads.

// Names are compared by whole components, which are separated by dots: ssm_a is a vector, ssm_alpha a matrix.

/// The component that says what a tensor is: "attn_norm" of "blk.0.attn_norm.weight", "ssm_a" of "blk.0.ssm_a".
std::string_view leaf_of(std::string_view name) {
  constexpr std::string_view kWeight = ".weight";
  if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
  const size_t dot = name.rfind('.');
  return dot == name.npos ? name : name.substr(dot + 1);
}

template <size_t N>
bool is_one_of(std::string_view leaf, const std::string_view (&names)[N]) {
  return std::find(std::begin(names), std::end(names), leaf) != std::end(names);
}

/// A norm's component has the word "norm" in it, e.g. attn_q_norm, post_ffw_norm_1, ple_norm_key; a few have another.
bool is_norm(std::string_view leaf) {
  constexpr std::string_view kOtherNorms[] = {"enorm", "hnorm", "norm1", "norm2"};
  if (is_one_of(leaf, kOtherNorms)) return true;
  while (!leaf.empty()) {
    const size_t end = std::min(leaf.find('_'), leaf.size());
    if (leaf.substr(0, end) == "norm") return true;
    leaf.remove_prefix(std::min(end + 1, leaf.size()));
  }
  return false;
}

// Last components of tensors that stand beside a tensor of the same name ending with "weight".
constexpr std::string_view kAddedOrScaled[] = {"bias", "scale", "scales", "input_scale"};

// Tensors that llama.cpp adds to activations or multiplies them with, element by element, or hands to an operator that
// reads F32 alone (convolution, scan, rotation, sinks). LLM_TENSOR_INFOS in its src/llama-arch.cpp names the operator
// of each tensor; test/native/model_test.cpp compares this list with it.
constexpr std::string_view kElementwise[] = {
    // recurrent layers
    "ssm_a", "ssm_d", "ssm_conv1d", "ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v",
    "conv",  // shortconv.conv
    // RWKV
    "time_mix_lerp_x", "time_mix_lerp_w", "time_mix_lerp_k", "time_mix_lerp_v", "time_mix_lerp_r", "time_mix_lerp_g",
    "time_mix_lerp_fused", "time_mix_first", "time_mix_decay", "time_mix_ln", "time_mix_w0", "time_mix_a0",
    "time_mix_v0", "time_mix_k_k", "time_mix_k_a", "time_mix_r_k", "channel_mix_lerp_k", "channel_mix_lerp_r",
    // attention and positions
    "attn_sinks", "rope_freqs", "rope_factors_long", "rope_factors_short",
    "token_types",  // llama.cpp adds its first row
    // experts, residual streams, convolutions of a draft model
    "exp_probs_b", "exp_probs_b_vl", "layer_output_scale", "altup_correct_scale", "attn_res_score", "ffn_res_score",
    "output_res_score", "output_hc_base", "output_hc_scale", "hc_attn_base", "hc_attn_scale", "hc_ffn_base",
    "hc_ffn_scale", "attn_conv_base", "ffn_conv_base",
    "z_l_init",  // hrm.z_l_init
    "act",       // ffn.act
    "gamma",     // convnext.N.gamma
};

// Tables of token and expert ids, read by ggml_get_rows or ggml_set_rows.
bool is_id_table(std::string_view name) {
  constexpr std::string_view kIdTables[] = {"d2t", "ffn_gate_tid2eid"};
  return is_one_of(leaf_of(name), kIdTables);
}

const char* wrong_type(const TensorEntry& tensor) {
  const auto type = static_cast<ggml_type>(tensor.type);
  if (is_id_table(tensor.name)) return type == GGML_TYPE_I32 || type == GGML_TYPE_I64 ? nullptr : "i32";
  if (must_be_f32(tensor.name)) return type == GGML_TYPE_F32 ? nullptr : "f32";
  if (type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16) return nullptr;
  if (!ggml_is_quantized(type)) return "a float or a quantised type";
  // Q8_1 and Q8_K exist for activations only: nothing multiplies them as weights.
  const bool weights = type != GGML_TYPE_Q8_1 && type != GGML_TYPE_Q8_K;
  return weights && ggml_get_type_traits_cpu(type)->vec_dot != nullptr ? nullptr : "a type for weights";
}

}  // namespace

bool must_be_f32(std::string_view name) {
  const std::string_view leaf = leaf_of(name);
  return is_one_of(leaf, kAddedOrScaled) || is_norm(leaf) || is_one_of(leaf, kElementwise);
}

Problem check_tensors(const std::string& path, const gguf_context* gguf, const std::vector<TensorEntry>& tensors) {
  // The format asks for multiples of 8; with less, weights would lie across their own alignment in the mapped file.
  const size_t alignment = gguf_get_alignment(gguf);
  if (alignment % 8 != 0) return invalid(path, "has general.alignment = " + std::to_string(alignment));

  std::error_code error;
  const uint64_t file_size = std::filesystem::file_size(path, error);
  const uint64_t data = gguf_get_data_offset(gguf);
  for (size_t i = 0; i < tensors.size(); i++) {
    const TensorEntry& tensor = tensors[i];
    const uint64_t offset = gguf_get_tensor_offset(gguf, static_cast<int64_t>(i));
    const uint64_t size = gguf_get_tensor_size(gguf, static_cast<int64_t>(i));
    if (data > file_size || size > file_size - data || offset > file_size - data - size) {
      return invalid(path, "ends before tensor " + tensor.name + ": the download is incomplete or the file is damaged");
    }
    if (const char* expected = wrong_type(tensor)) {
      return invalid(path, "has tensor " + tensor.name + " of type " +
                               ggml_type_name(static_cast<ggml_type>(tensor.type)) + ", expected " + expected);
    }
  }
  return std::nullopt;
}

}  // namespace cllm
