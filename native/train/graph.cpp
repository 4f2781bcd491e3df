#include "train/graph.h"

#include <cmath>

#include "base/error.h"
#include "train/product.h"
#include "train/transpose.h"

namespace cllm {

TrainingGraph::TrainingGraph(Weights& weights, ggml_backend_t backend, const TrainingShape& shape)
    : weights_(weights),
      arch_(weights.architecture()),
      backend_(backend),
      on_cpu_(is_cpu(backend)),
      custom_product_(on_cpu_ && weights.options().product == GGML_TYPE_BF16 && has_product()),
      product_(weights.options().product),
      shape_(shape),
      token_count_(int64_t(shape.rows) * shape.length) {
  // A layer has up to 280 nodes: with adapters, on a GPU.
  const size_t nodes = 256 + 512 * static_cast<size_t>(arch_.layers);
  ctx_.reset(ggml_init({.mem_size = ggml_tensor_overhead() * nodes * 2 + ggml_graph_overhead_custom(nodes, false),
                        .mem_buffer = nullptr,
                        .no_alloc = true}));
  graph_ = ggml_new_graph_custom(ctx_.get(), nodes, false);
  build();
  allocator_.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_)));
  // Only sizes are computed here; inputs and nodes get no memory yet. The weights must not count as the graph's memory,
  // so they have a placeholder for a buffer: ggml takes a tensor with a buffer for allocated.
  const BufferPointer placeholder(ggml_backend_buft_alloc_buffer(ggml_backend_get_default_buffer_type(backend_), 0));
  weights_.set_buffer(placeholder.get());
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
  if (!custom_product_ || a->type != GGML_TYPE_BF16) return ggml_mul_mat(ctx_.get(), a, b);
  if (b->type == GGML_TYPE_F32) b = rounded(b);
  return product_takes(a, b) ? product(ctx_.get(), a, b) : ggml_mul_mat(ctx_.get(), a, b);
}

// One activation is an operand of several products that follow each other, so the last rounded one is kept.
ggml_tensor* TrainingGraph::rounded(ggml_tensor* x) {
  if (x != rounded_from_) {
    rounded_from_ = x;
    rounded_ = to_bf16(ctx_.get(), x);
  }
  return rounded_;
}

ggml_tensor* TrainingGraph::left_operand(ggml_tensor* x) {
  if (product_ == GGML_TYPE_F32) return right_operand(x);
  if (custom_product_) return to_bf16(ctx_.get(), x);
  return ggml_cast(ctx_.get(), x, product_);
}

ggml_tensor* TrainingGraph::right_operand(ggml_tensor* x) {
  // Products in BF16 convert x to a contiguous copy themselves, and cuBLAS takes strides.
  return product_ != GGML_TYPE_F32 || !on_cpu_ || ggml_is_contiguous(x) ? x : ggml_cont(ctx_.get(), x);
}

ggml_tensor* TrainingGraph::transposed(ggml_tensor* x, ggml_type type) {
  if (on_cpu_) return transpose_on_cpu(ctx_.get(), x, type);
  // ggml-cuda has a fast kernel where the matrices lie along one dimension, and a slow one otherwise.
  const bool merged = ggml_is_contiguous(x) && x->ne[3] > 1;
  ggml_tensor* matrices = merged ? ggml_reshape_3d(ctx_.get(), x, x->ne[0], x->ne[1], x->ne[2] * x->ne[3]) : x;
  ggml_tensor* result = ggml_transpose(ctx_.get(), matrices);
  result = type == GGML_TYPE_F32 ? ggml_cont(ctx_.get(), result) : ggml_cast(ctx_.get(), result, type);
  return merged ? ggml_reshape_4d(ctx_.get(), result, x->ne[1], x->ne[0], x->ne[2], x->ne[3]) : result;
}

void TrainingGraph::build() {
  const int64_t labels = shape_.labels;
  tokens_ = input(GGML_TYPE_I32, token_count_);
  positions_ = input(GGML_TYPE_I32, token_count_);
  mask_ = input(GGML_TYPE_F32, shape_.length, shape_.length, 1, shape_.rows);
  at_ = input(GGML_TYPE_I32, labels);
  flat_ = input(GGML_TYPE_I32, labels);
  flat64_ = input(GGML_TYPE_I64, labels);
  hard_ = input(GGML_TYPE_F32, 1, labels);
  soft_ = input(GGML_TYPE_F32, 1, labels);
  weight_ = input(GGML_TYPE_F32, 1, labels);
  soft_source_ = input(GGML_TYPE_I32, labels);
  label_at_ = input(GGML_TYPE_I32, token_count_);

  const Parameter& embedding = weights_.get("token_embd.weight");
  ggml_tensor* x = ggml_get_rows(ctx_.get(), embedding.value, tokens_);
  std::vector<Layer> layers(arch_.layers);
  for (int i = 0; i < arch_.layers; i++) {
    layers[i].index = i;
    x = node(forward(layers[i], x));
  }

  // Only the labelled positions go through the head.
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
  // No two labels are at one token, so this is a gather; a token without a label gets the row of zeros.
  ggml_tensor* dx =
      node(ggml_get_rows(ctx_.get(), ggml_concat(ctx_.get(), dlast, constant(0, arch_.width, 1), 1), label_at_));
  for (int i = arch_.layers - 1; i >= 0; i--) dx = node(backward(layers[i], dx));
  if (embedding.trained) accumulate(embedding, embedding_back(dx, embedding.master));
}

LabelResults TrainingGraph::run(const PassInput& pass) {
  const size_t labels = shape_.labels;
  const auto send = [](ggml_tensor* tensor, const void* data) {
    ggml_backend_tensor_set(tensor, data, 0, ggml_nbytes(tensor));
  };
  const auto padded = [&](auto values) {
    values.resize(labels);
    return values;
  };
  const auto at = padded(pass.at), target = padded(pass.target), source = padded(pass.soft_source);
  const auto hard = padded(pass.hard), soft = padded(pass.soft);
  std::vector<int32_t> flat(labels), label_at(token_count_, static_cast<int32_t>(labels));
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
    std::vector<int64_t> places(token_count_);
    for (int64_t t = 0; t < token_count_; t++) places[t] = pass.tokens[t] * token_count_ + t;
    send(token_places_, places.data());
  }
  const ggml_status status = ggml_backend_graph_compute(backend_, graph_);
  if (status == GGML_STATUS_ABORTED) throw Error("CLLM_ABORTED", "Training was aborted");
  if (status != GGML_STATUS_SUCCESS) throw Error("CLLM_TRAINING_FAILED", "ggml could not compute a training pass");
  LabelResults result{std::vector<int32_t>(labels), std::vector<float>(labels)};
  ggml_backend_tensor_get(choice_, result.choice.data(), 0, ggml_nbytes(choice_));
  ggml_backend_tensor_get(probability_, result.probability.data(), 0, ggml_nbytes(probability_));
  return result;
}

}  // namespace cllm
