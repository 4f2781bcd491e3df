#include "train/graph.h"

#include <cmath>

#include "base/error.h"
#include "train/product.h"
#include "train/transpose.h"

namespace cllm {

/// What the backward pass needs of a layer's forward pass. What is cheap is computed again instead of being kept.
struct TrainingGraph::Layer {
  int index;
  ggml_tensor* input;            // [width, T]
  ggml_tensor *q_flat, *k_flat;  // [size, heads, T] before norm and rotation; kept only for qwen3's norms
  ggml_tensor *q, *k, *v;        // [size, L, heads or kv_heads, B], contiguous or views
  ggml_tensor* attention;        // [L (key), L (query), heads, B] after softmax
  ggml_tensor* attended;         // [size * heads, T]
  ggml_tensor* middle;           // [width, T] after attention
  ggml_tensor *gate, *up;        // [hidden, T]
  std::string name(const char* part) const { return layer_tensor(index, part); }
};

TrainingGraph::TrainingGraph(Weights& weights, ggml_backend_t backend, const TrainingShape& shape)
    : weights_(weights),
      arch_(weights.architecture()),
      backend_(backend),
      on_cpu_(is_cpu(backend)),
      own_product_(on_cpu_ && weights.options().product == GGML_TYPE_BF16 && has_product()),
      product_(weights.options().product),
      shape_(shape),
      tokens_count_(int64_t(shape.rows) * shape.length) {
  // A layer has up to 280, with adapters on a GPU.
  const size_t nodes = 256 + 512 * static_cast<size_t>(arch_.layers);
  ctx_.reset(ggml_init({.mem_size = ggml_tensor_overhead() * nodes * 2 + ggml_graph_overhead_custom(nodes, false),
                        .mem_buffer = nullptr,
                        .no_alloc = true}));
  graph_ = ggml_new_graph_custom(ctx_.get(), nodes, false);
  build();
  allocator_.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_)));
  // Sizes only; the inputs and nodes get no memory yet. Weights are not of the graph's memory: a tensor with a buffer
  // is taken for allocated.
  const BufferPointer elsewhere(ggml_backend_buft_alloc_buffer(ggml_backend_get_default_buffer_type(backend_), 0));
  weights_.set_buffer(elsewhere.get());
  ggml_gallocr_reserve_n_size(allocator_.get(), graph_, nullptr, nullptr, &bytes_);
  weights_.set_buffer(nullptr);
}

void TrainingGraph::allocate() {
  if (!ggml_gallocr_reserve(allocator_.get(), graph_) || !ggml_gallocr_alloc_graph(allocator_.get(), graph_)) {
    throw Error("CLLM_OUT_OF_MEMORY", "Not enough memory for the activations of a training pass");
  }
}

void TrainingGraph::keep_probabilities() { ggml_set_output(probabilities_); }

std::vector<float> TrainingGraph::probabilities() const {
  std::vector<float> values(ggml_nelements(probabilities_));
  ggml_backend_tensor_get(probabilities_, values.data(), 0, ggml_nbytes(probabilities_));
  return values;
}

ggml_tensor* TrainingGraph::input(ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3) {
  ggml_tensor* tensor = ggml_new_tensor_4d(ctx_.get(), type, ne0, ne1, ne2, ne3);
  ggml_set_input(tensor);
  expand(tensor);
  return tensor;
}

ggml_tensor* TrainingGraph::constant(float value, int64_t ne0, int64_t ne1) {
  return ggml_fill_inplace(ctx_.get(), ggml_new_tensor_2d(ctx_.get(), GGML_TYPE_F32, ne0, ne1), value);
}

ggml_tensor* TrainingGraph::multiply(ggml_tensor* a, ggml_tensor* b) {
  if (!own_product_ || a->type != GGML_TYPE_BF16) return ggml_mul_mat(ctx_.get(), a, b);
  if (b->type == GGML_TYPE_F32) b = rounded(b);
  return can_product(a, b) ? product(ctx_.get(), a, b) : ggml_mul_mat(ctx_.get(), a, b);
}

// One activation is an operand of several products.
ggml_tensor* TrainingGraph::rounded(ggml_tensor* x) {
  if (x != rounded_from_) {
    rounded_from_ = x;
    rounded_ = to_bf16(ctx_.get(), x);
  }
  return rounded_;
}

ggml_tensor* TrainingGraph::left(ggml_tensor* x) {
  if (product_ == GGML_TYPE_F32) return right(x);
  if (own_product_) return to_bf16(ctx_.get(), x);
  return ggml_cast(ctx_.get(), x, product_);
}

ggml_tensor* TrainingGraph::right(ggml_tensor* x) {
  // Products in BF16 convert it to a contiguous copy themselves, and cuBLAS takes strides.
  return product_ != GGML_TYPE_F32 || !on_cpu_ || ggml_is_contiguous(x) ? x : ggml_cont(ctx_.get(), x);
}

ggml_tensor* TrainingGraph::transposed(ggml_tensor* x, ggml_type type) {
  if (on_cpu_) return transpose_on_cpu(ctx_.get(), x, type);
  // ggml-cuda has a kernel for matrices in one row, and for others a slow one.
  const bool one_row = ggml_is_contiguous(x) && x->ne[3] > 1;
  ggml_tensor* matrices = one_row ? ggml_reshape_3d(ctx_.get(), x, x->ne[0], x->ne[1], x->ne[2] * x->ne[3]) : x;
  ggml_tensor* turned = ggml_transpose(ctx_.get(), matrices);
  turned = type == GGML_TYPE_F32 ? ggml_cont(ctx_.get(), turned) : ggml_cast(ctx_.get(), turned, type);
  return one_row ? ggml_reshape_4d(ctx_.get(), turned, x->ne[1], x->ne[0], x->ne[2], x->ne[3]) : turned;
}

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
  return ggml_reshape_2d(ctx_.get(), x, int64_t(arch_.head_size) * heads, tokens_count_);
}

void TrainingGraph::accumulate(const Parameter& parameter, ggml_tensor* gradient) {
  expand(ggml_add_inplace(ctx_.get(), parameter.gradient, gradient));
}

void TrainingGraph::build() {
  const int64_t labels = shape_.labels;
  tokens_ = input(GGML_TYPE_I32, tokens_count_);
  positions_ = input(GGML_TYPE_I32, tokens_count_);
  mask_ = input(GGML_TYPE_F32, shape_.length, shape_.length, 1, shape_.rows);
  at_ = input(GGML_TYPE_I32, labels);
  flat_ = input(GGML_TYPE_I32, labels);
  flat64_ = input(GGML_TYPE_I64, labels);
  hard_ = input(GGML_TYPE_F32, 1, labels);
  soft_ = input(GGML_TYPE_F32, 1, labels);
  weight_ = input(GGML_TYPE_F32, 1, labels);
  soft_source_ = input(GGML_TYPE_I32, labels);
  label_at_ = input(GGML_TYPE_I32, tokens_count_);

  const Parameter& embedding = weights_.get("token_embd.weight");
  ggml_tensor* x = ggml_get_rows(ctx_.get(), embedding.value, tokens_);
  std::vector<Layer> layers(arch_.layers);
  for (int i = 0; i < arch_.layers; i++) {
    layers[i].index = i;
    x = node(forward(layers[i], x));
  }

  // The head sees the labelled positions alone.
  const Parameter& head = weights_.get(arch_.tied ? "token_embd.weight" : "output.weight");
  const Parameter& norm = weights_.get("output_norm.weight");
  ggml_tensor* last = node(ggml_get_rows(ctx_.get(), x, at_));
  ggml_tensor* hidden = node(normed(last, norm));
  ggml_tensor* logits = multiply(head.value, hidden);  // [vocab, N]
  probabilities_ = node(ggml_soft_max(ctx_.get(), logits));
  choice_ = node(ggml_argmax(ctx_.get(), probabilities_));
  ggml_set_output(choice_);
  ggml_tensor* dlogits = node(head_back(probabilities_));

  ggml_tensor* dhidden = node(multiply(head.transposed, dlogits));
  if (head.trained) {
    accumulate(head, multiply(transposed_left(hidden), transposed_right(dlogits)));
  }
  ggml_tensor* dlast = norm_back(norm, last, dhidden);
  // No two labels are at one token, so that this is a gather: a token without one gets the row of zeros.
  ggml_tensor* dx =
      node(ggml_get_rows(ctx_.get(), ggml_concat(ctx_.get(), dlast, constant(0, arch_.width, 1), 1), label_at_));
  for (int i = arch_.layers - 1; i >= 0; i--) dx = node(backward(layers[i], dx));
  if (embedding.trained) accumulate(embedding, embedding_back(dx, embedding.master));
}

ggml_tensor* TrainingGraph::embedding_back(ggml_tensor* dx, ggml_tensor* like) {
  if (on_cpu_) return ggml_get_rows_back(ctx_.get(), dx, tokens_, like);
  // ggml-cuda's looks through all tokens for each of the vocabulary: a tenth of a pass. A product with one-hot rows is
  // nearly for nothing there.
  const int64_t vocab = arch_.vocab;
  token_places_ = input(GGML_TYPE_I64, tokens_count_);
  ggml_tensor* one_hot =
      ggml_set_rows(ctx_.get(), constant(0, 1, tokens_count_ * vocab), constant(1, 1, tokens_count_), token_places_);
  one_hot = ggml_reshape_2d(ctx_.get(), one_hot, tokens_count_, vocab);
  return ggml_mul_mat(ctx_.get(), transposed(dx, GGML_TYPE_F32), one_hot);
}

// (hard + soft) * p - hard * one_hot(target) - soft * p[soft_source], for each label.
ggml_tensor* TrainingGraph::head_back(ggml_tensor* p) {
  const int64_t vocab = arch_.vocab, labels = shape_.labels;
  const auto flat = [&](ggml_tensor* x) { return ggml_reshape_2d(ctx_.get(), x, 1, vocab * labels); };
  probability_ = node(ggml_get_rows(ctx_.get(), flat(p), flat_));
  ggml_set_output(probability_);
  ggml_tensor* wanted = ggml_mul(ctx_.get(), ggml_get_rows(ctx_.get(), p, soft_source_), soft_);
  expand(wanted);
  ggml_tensor* d = ggml_sub(ctx_.get(), ggml_mul(ctx_.get(), p, weight_), wanted);
  ggml_tensor* at_target = ggml_sub(ctx_.get(), ggml_get_rows(ctx_.get(), flat(d), flat_), hard_);
  return ggml_reshape_2d(ctx_.get(), ggml_set_rows(ctx_.get(), flat(d), at_target, flat64_), vocab, labels);
}

ggml_tensor* TrainingGraph::forward(Layer& layer, ggml_tensor* x) {
  const int64_t size = arch_.head_size;
  layer.input = x;
  ggml_tensor* a = normed(x, weights_.get(layer.name("attn_norm.weight")));
  const auto project = [&](const char* part, int heads) {
    return ggml_reshape_3d(ctx_.get(), linear(layer.name(part), a), size, heads, tokens_count_);
  };
  layer.q_flat = project("attn_q", arch_.heads);
  layer.k_flat = project("attn_k", arch_.kv_heads);
  const auto turn = [&](ggml_tensor* flat, const char* norm, int heads) {
    if (const Parameter* weight = weights_.find(layer.name(norm))) flat = normed(flat, *weight);
    return to_heads(rotate(flat, false), heads);
  };
  layer.q = node(turn(layer.q_flat, "attn_q_norm.weight", arch_.heads));
  layer.k = node(turn(layer.k_flat, "attn_k_norm.weight", arch_.kv_heads));
  layer.v = node(to_heads(project("attn_v", arch_.kv_heads), arch_.kv_heads));
  ggml_tensor* scores = multiply(left(layer.k), right(layer.q));
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
  ggml_tensor* dattention = multiply(left(layer.v), right(doutput));
  ggml_tensor* dscores = node(ggml_soft_max_ext_back(ctx_.get(), dattention, layer.attention, scale, 0));
  ggml_tensor* dq = multiply(transposed_left(layer.k), dscores);
  dq = node(from_heads(dq, arch_.heads));
  ggml_tensor* dk = multiply(transposed_left(layer.q), transposed_right(dscores));
  dk = node(from_heads(sum_heads(dk), arch_.kv_heads));

  const auto turn_back = [&](ggml_tensor* d, ggml_tensor* flat, const char* norm, int heads) {
    d = rotate(ggml_reshape_3d(ctx_.get(), d, arch_.head_size, heads, tokens_count_), true);
    if (const Parameter* weight = weights_.find(layer.name(norm))) d = norm_back(*weight, flat, d);
    return ggml_reshape_2d(ctx_.get(), d, int64_t(arch_.head_size) * heads, tokens_count_);
  };
  dq = node(turn_back(dq, layer.q_flat, "attn_q_norm.weight", arch_.heads));
  dk = node(turn_back(dk, layer.k_flat, "attn_k_norm.weight", arch_.kv_heads));
  ggml_tensor* a = node(normed(layer.input, weights_.get(layer.name("attn_norm.weight"))));
  ggml_tensor* da = linear_back(layer.name("attn_q"), a, dq);
  da = ggml_add(ctx_.get(), da, linear_back(layer.name("attn_k"), a, dk));
  return node(ggml_add(ctx_.get(), da, linear_back(layer.name("attn_v"), a, dv)));
}

ggml_tensor* TrainingGraph::sum_heads(ggml_tensor* x) {
  if (arch_.heads == arch_.kv_heads) return x;
  const int64_t one = int64_t(arch_.head_size) * shape_.length, group = arch_.heads / arch_.kv_heads;
  x = ggml_reshape_4d(ctx_.get(), x, one, group, arch_.kv_heads, shape_.rows);
  ggml_tensor* shape =
      ggml_view_4d(ctx_.get(), x, one, 1, arch_.kv_heads, shape_.rows, x->nb[1], x->nb[2], x->nb[3], 0);
  x = ggml_repeat_back(ctx_.get(), x, shape);
  return ggml_reshape_4d(ctx_.get(), x, arch_.head_size, shape_.length, arch_.kv_heads, shape_.rows);
}

ggml_tensor* TrainingGraph::sum_columns(ggml_tensor* x, ggml_tensor* like) {
  if (on_cpu_) return ggml_repeat_back(ctx_.get(), x, like);
  // ggml-cuda's repeat_back adds up all that goes into one element in one thread.
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
    const auto outer = [&](ggml_tensor* one, ggml_tensor* other) {  // in F32, as the adapters are
      return multiply(transposed(one, GGML_TYPE_F32), transposed(other, GGML_TYPE_F32));
    };
    ggml_tensor* scaled = ggml_scale(ctx_.get(), dy, kAdapterScale);
    ggml_tensor* low = multiply(a->value, x);
    ggml_tensor* dlow = multiply(b.transposed, scaled);
    accumulate(b, outer(low, scaled));
    accumulate(*a, outer(x, dlow));
    dx = ggml_add(ctx_.get(), dx, multiply(a->transposed, dlow));
  }
  return node(dx);
}

PassResult TrainingGraph::run(const PassInput& pass) {
  const size_t labels = shape_.labels;
  const auto send = [](ggml_tensor* tensor, const void* data) {
    ggml_backend_tensor_set(tensor, data, 0, ggml_nbytes(tensor));
  };
  const auto filled = [&](auto values) {
    values.resize(labels);
    return values;
  };
  const auto at = filled(pass.at), target = filled(pass.target), source = filled(pass.soft_source);
  const auto hard = filled(pass.hard), soft = filled(pass.soft);
  std::vector<int32_t> flat(labels), label_at(tokens_count_, static_cast<int32_t>(labels));
  for (size_t i = 0; i < pass.at.size(); i++) label_at[pass.at[i]] = static_cast<int32_t>(i);
  std::vector<int64_t> flat64(labels);
  std::vector<float> weight(labels);
  for (size_t i = 0; i < labels; i++) {
    flat64[i] = static_cast<int64_t>(i) * arch_.vocab + target[i];
    flat[i] = static_cast<int32_t>(flat64[i]);
    weight[i] = hard[i] + soft[i];
  }
  send(tokens_, pass.tokens.data());
  send(positions_, pass.positions.data());
  send(mask_, pass.mask.data());
  send(at_, at.data());
  send(flat_, flat.data());
  send(flat64_, flat64.data());
  send(hard_, hard.data());
  send(soft_, soft.data());
  send(weight_, weight.data());
  send(soft_source_, source.data());
  send(label_at_, label_at.data());
  if (token_places_ != nullptr) {
    std::vector<int64_t> places(tokens_count_);
    for (int64_t t = 0; t < tokens_count_; t++) places[t] = pass.tokens[t] * tokens_count_ + t;
    send(token_places_, places.data());
  }
  const ggml_status status = ggml_backend_graph_compute(backend_, graph_);
  if (status == GGML_STATUS_ABORTED) throw Error("CLLM_ABORTED", "Training was aborted");
  if (status != GGML_STATUS_SUCCESS) throw Error("CLLM_TRAINING_FAILED", "ggml could not compute a training pass");
  PassResult result{std::vector<int32_t>(labels), std::vector<float>(labels)};
  ggml_backend_tensor_get(choice_, result.choice.data(), 0, ggml_nbytes(choice_));
  ggml_backend_tensor_get(probability_, result.probability.data(), 0, ggml_nbytes(probability_));
  return result;
}

}  // namespace cllm
