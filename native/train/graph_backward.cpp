#include <cmath>

#include "train/graph.h"

// The backward pass: head, layers, embedding.

namespace cllm {

void TrainingGraph::accumulate(const Parameter& parameter, ggml_tensor* gradient) {
  expand(ggml_add_inplace(ctx_.get(), parameter.gradient, gradient));
}

ggml_tensor* TrainingGraph::embedding_back(ggml_tensor* dx, ggml_tensor* like) {
  if (on_cpu_) return ggml_get_rows_back(ctx_.get(), dx, tokens_, like);
  // ggml-cuda's get_rows_back goes through all tokens for each entry of the vocabulary, which took a tenth of a pass. A
  // product with one-hot rows costs next to nothing on a GPU.
  const int64_t vocab = arch_.vocab;
  token_places_ = input(GGML_TYPE_I64, token_count_);
  ggml_tensor* one_hot =
      ggml_set_rows(ctx_.get(), constant(0, 1, token_count_ * vocab), constant(1, 1, token_count_), token_places_);
  one_hot = ggml_reshape_2d(ctx_.get(), one_hot, token_count_, vocab);
  return ggml_mul_mat(ctx_.get(), transposed(dx, GGML_TYPE_F32), one_hot);
}

// For each label: (hard + soft) * p - hard * one_hot(target) - soft * p[soft_source].
ggml_tensor* TrainingGraph::head_back(ggml_tensor* p) {
  const int64_t vocab = arch_.vocab, labels = shape_.labels;
  const auto flat = [&](ggml_tensor* x) { return ggml_reshape_2d(ctx_.get(), x, 1, vocab * labels); };
  probability_ = node(ggml_get_rows(ctx_.get(), flat(p), flat_));
  ggml_set_output(probability_);
  ggml_tensor* soft_target = ggml_mul(ctx_.get(), ggml_get_rows(ctx_.get(), p, soft_source_), soft_);
  expand(soft_target);
  ggml_tensor* d = ggml_sub(ctx_.get(), ggml_mul(ctx_.get(), p, weight_), soft_target);
  ggml_tensor* at_target = ggml_sub(ctx_.get(), ggml_get_rows(ctx_.get(), flat(d), flat_), hard_);
  return ggml_reshape_2d(ctx_.get(), ggml_set_rows(ctx_.get(), flat(d), at_target, flat64_), vocab, labels);
}

ggml_tensor* TrainingGraph::backward(Layer& layer, ggml_tensor* dout) {
  const Parameter& ffn_norm = weights_.get(layer.name("ffn_norm.weight"));
  const Parameter& attn_norm = weights_.get(layer.name("attn_norm.weight"));
  ggml_tensor* active = ggml_silu(ctx_.get(), layer.gate);
  ggml_tensor* dhidden = linear_back(layer.name("ffn_down"), ggml_mul(ctx_.get(), active, layer.up), dout);
  ggml_tensor* dup = node(ggml_mul(ctx_.get(), dhidden, active));
  ggml_tensor* dgate = node(ggml_silu_back(ctx_.get(), ggml_mul(ctx_.get(), dhidden, layer.up), layer.gate));
  ggml_tensor* b = node(normed(layer.middle, ffn_norm));
  ggml_tensor* db =
      ggml_add(ctx_.get(), linear_back(layer.name("ffn_gate"), b, dgate), linear_back(layer.name("ffn_up"), b, dup));
  ggml_tensor* dmiddle = node(ggml_add(ctx_.get(), dout, norm_back(ffn_norm, layer.middle, db)));
  ggml_tensor* dattended = linear_back(layer.name("attn_output"), layer.attended, dmiddle);
  ggml_tensor* da = attention_back(layer, dattended);
  return ggml_add(ctx_.get(), dmiddle, norm_back(attn_norm, layer.input, da));
}

ggml_tensor* TrainingGraph::attention_back(Layer& layer, ggml_tensor* doutput) {
  const float scale = 1 / std::sqrt(static_cast<float>(arch_.head_size));
  doutput = to_heads(doutput, arch_.heads);
  ggml_tensor* dv = multiply(transposed_left(doutput), transposed_right(layer.attention));
  dv = node(from_heads(sum_heads(dv), arch_.kv_heads));
  ggml_tensor* dattention = multiply(left_operand(layer.v), right_operand(doutput));
  ggml_tensor* dscores = node(ggml_soft_max_ext_back(ctx_.get(), dattention, layer.attention, scale, 0));
  ggml_tensor* dq = multiply(transposed_left(layer.k), dscores);
  dq = node(from_heads(dq, arch_.heads));
  ggml_tensor* dk = multiply(transposed_left(layer.q), transposed_right(dscores));
  dk = node(from_heads(sum_heads(dk), arch_.kv_heads));

  const auto rotate_back = [&](ggml_tensor* d, ggml_tensor* flat, const char* norm, int heads) {
    d = rotate(ggml_reshape_3d(ctx_.get(), d, arch_.head_size, heads, token_count_), true);
    if (const Parameter* weight = weights_.find(layer.name(norm))) d = norm_back(*weight, flat, d);
    return ggml_reshape_2d(ctx_.get(), d, int64_t(arch_.head_size) * heads, token_count_);
  };
  dq = node(rotate_back(dq, layer.q_flat, "attn_q_norm.weight", arch_.heads));
  dk = node(rotate_back(dk, layer.k_flat, "attn_k_norm.weight", arch_.kv_heads));
  ggml_tensor* a = node(normed(layer.input, weights_.get(layer.name("attn_norm.weight"))));
  ggml_tensor* da = linear_back(layer.name("attn_q"), a, dq);
  da = ggml_add(ctx_.get(), da, linear_back(layer.name("attn_k"), a, dk));
  return node(ggml_add(ctx_.get(), da, linear_back(layer.name("attn_v"), a, dv)));
}

ggml_tensor* TrainingGraph::sum_heads(ggml_tensor* x) {
  if (arch_.heads == arch_.kv_heads) return x;
  const int64_t head = int64_t(arch_.head_size) * shape_.length, group = arch_.heads / arch_.kv_heads;
  x = ggml_reshape_4d(ctx_.get(), x, head, group, arch_.kv_heads, shape_.rows);
  ggml_tensor* shape =
      ggml_view_4d(ctx_.get(), x, head, 1, arch_.kv_heads, shape_.rows, x->nb[1], x->nb[2], x->nb[3], 0);
  x = ggml_repeat_back(ctx_.get(), x, shape);
  return ggml_reshape_4d(ctx_.get(), x, arch_.head_size, shape_.length, arch_.kv_heads, shape_.rows);
}

ggml_tensor* TrainingGraph::sum_columns(ggml_tensor* x, ggml_tensor* like) {
  if (on_cpu_) return ggml_repeat_back(ctx_.get(), x, like);
  // ggml-cuda's repeat_back adds up everything that goes into one element in one thread.
  x = ggml_reshape_2d(ctx_.get(), x, like->ne[0], ggml_nelements(x) / like->ne[0]);
  return ggml_reshape_1d(ctx_.get(), ggml_sum_rows(ctx_.get(), transposed(x, GGML_TYPE_F32)), like->ne[0]);
}

ggml_tensor* TrainingGraph::norm_back(const Parameter& weight, ggml_tensor* x, ggml_tensor* dy) {
  if (weight.trained) {
    ggml_tensor* product = ggml_mul(ctx_.get(), dy, ggml_rms_norm(ctx_.get(), x, arch_.norm_epsilon));
    accumulate(weight, sum_columns(product, weight.value));
  }
  return node(ggml_rms_norm_back(ctx_.get(), ggml_mul(ctx_.get(), dy, weight.value), x, arch_.norm_epsilon));
}

ggml_tensor* TrainingGraph::linear_back(const std::string& name, ggml_tensor* x, ggml_tensor* dy) {
  const Parameter& matrix = weights_.get(name + ".weight");
  ggml_tensor* dx = multiply(matrix.transposed, dy);
  const Parameter* bias = weights_.find(name + ".bias");
  if (bias != nullptr && bias->trained) accumulate(*bias, sum_columns(dy, bias->value));
  if (matrix.trained) accumulate(matrix, multiply(transposed_left(x), transposed_right(dy)));
  if (const Parameter* a = weights_.find(name + ".weight.lora_a")) {
    const Parameter& b = weights_.get(name + ".weight.lora_b");
    const auto outer_product = [&](ggml_tensor* x, ggml_tensor* y) {  // in F32, as the adapters are
      return multiply(transposed(x, GGML_TYPE_F32), transposed(y, GGML_TYPE_F32));
    };
    ggml_tensor* scaled = ggml_scale(ctx_.get(), dy, kAdapterScale);
    ggml_tensor* low = multiply(a->value, x);
    ggml_tensor* dlow = multiply(b.transposed, scaled);
    accumulate(b, outer_product(low, scaled));
    accumulate(*a, outer_product(x, dlow));
    dx = ggml_add(ctx_.get(), dx, multiply(a->transposed, dlow));
  }
  return node(dx);
}

}  // namespace cllm
