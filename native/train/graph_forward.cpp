#include <cmath>

#include "train/graph.h"

// The forward pass of a layer.

namespace cllm {

ggml_tensor* TrainingGraph::normed(ggml_tensor* x, const Parameter& weight) {
  return ggml_mul(ctx_.get(), ggml_rms_norm(ctx_.get(), x, arch_.norm_epsilon), weight.value);
}

ggml_tensor* TrainingGraph::linear(const std::string& name, ggml_tensor* x) {
  ggml_tensor* y = multiply(weights_.get(name + ".weight").value, x);
  if (const Parameter* a = weights_.find(name + ".weight.lora_a")) {
    ggml_tensor* low = multiply(a->value, x);
    ggml_tensor* high = multiply(weights_.get(name + ".weight.lora_b").value, low);
    y = ggml_add(ctx_.get(), y, ggml_scale(ctx_.get(), high, kAdapterScale));
  }
  if (const Parameter* bias = weights_.find(name + ".bias")) y = ggml_add(ctx_.get(), y, bias->value);
  return y;
}

ggml_tensor* TrainingGraph::rotate(ggml_tensor* x, bool back) {
  const auto rope = back ? ggml_rope_ext_back : ggml_rope_ext;
  return rope(ctx_.get(), x, positions_, weights_.rope_factors(), arch_.rope_dims, arch_.rope_mode, arch_.context,
              arch_.rope_base, arch_.rope_scale, 0, 1, 32, 1);
}

ggml_tensor* TrainingGraph::to_heads(ggml_tensor* x, int heads) {
  x = ggml_reshape_4d(ctx_.get(), x, arch_.head_size, heads, shape_.length, shape_.rows);
  return ggml_permute(ctx_.get(), x, 0, 2, 1, 3);
}

ggml_tensor* TrainingGraph::from_heads(ggml_tensor* x, int heads) {
  x = ggml_cont(ctx_.get(), ggml_permute(ctx_.get(), x, 0, 2, 1, 3));
  return ggml_reshape_2d(ctx_.get(), x, int64_t(arch_.head_size) * heads, token_count_);
}

ggml_tensor* TrainingGraph::forward(Layer& layer, ggml_tensor* x) {
  const int64_t size = arch_.head_size;
  layer.input = x;
  ggml_tensor* a = normed(x, weights_.get(layer.name("attn_norm.weight")));
  const auto project = [&](const char* part, int heads) {
    return ggml_reshape_3d(ctx_.get(), linear(layer.name(part), a), size, heads, token_count_);
  };
  layer.q_flat = project("attn_q", arch_.heads);
  layer.k_flat = project("attn_k", arch_.kv_heads);
  const auto norm_and_rotate = [&](ggml_tensor* flat, const char* norm, int heads) {
    if (const Parameter* weight = weights_.find(layer.name(norm))) flat = normed(flat, *weight);
    return to_heads(rotate(flat, false), heads);
  };
  layer.q = node(norm_and_rotate(layer.q_flat, "attn_q_norm.weight", arch_.heads));
  layer.k = node(norm_and_rotate(layer.k_flat, "attn_k_norm.weight", arch_.kv_heads));
  layer.v = node(to_heads(project("attn_v", arch_.kv_heads), arch_.kv_heads));
  ggml_tensor* scores = multiply(left_operand(layer.k), right_operand(layer.q));
  const float scale = 1 / std::sqrt(static_cast<float>(size));
  layer.attention = node(ggml_soft_max_ext(ctx_.get(), scores, mask_, scale, 0));
  ggml_tensor* values = transposed_left(layer.v);  // [L, size, kv_heads, B]
  layer.attended = node(from_heads(multiply(values, layer.attention), arch_.heads));
  layer.middle = node(ggml_add(ctx_.get(), x, linear(layer.name("attn_output"), layer.attended)));
  ggml_tensor* b = normed(layer.middle, weights_.get(layer.name("ffn_norm.weight")));
  layer.gate = node(linear(layer.name("ffn_gate"), b));
  layer.up = node(linear(layer.name("ffn_up"), b));
  ggml_tensor* hidden = ggml_swiglu_split(ctx_.get(), layer.gate, layer.up);
  return ggml_add(ctx_.get(), layer.middle, linear(layer.name("ffn_down"), hidden));
}

}  // namespace cllm
