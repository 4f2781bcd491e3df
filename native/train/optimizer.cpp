#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "train/transpose.h"

namespace cllm {

namespace {

constexpr size_t kNodesPerParameter = 4;  // views, copies
constexpr int64_t kNormRows = Optimizer::kSquareBytes / (kGroupColumns * sizeof(float));
constexpr size_t kNodesPerNorm = 3;

}  // namespace

Optimizer::Optimizer(Weights& weights, ggml_backend_t backend)
    : weights_(weights),
      backend_(backend),
      allocator_(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend))) {}

size_t Optimizer::node_limit() const {
  size_t parts = 16;
  for (const auto& group : weights_.groups())
    parts += group.gradient == nullptr ? 0 : group.gradient->ne[1] / kNormRows;
  return weights_.all().size() * kNodesPerParameter + parts * kNodesPerNorm;
}

GgmlContextPointer Optimizer::new_context() const {
  const size_t nodes = node_limit();
  return GgmlContextPointer(
      ggml_init({.mem_size = ggml_tensor_overhead() * nodes + ggml_graph_overhead_custom(nodes, false),
                 .mem_buffer = nullptr,
                 .no_alloc = true}));
}

ggml_cgraph* Optimizer::new_graph(ggml_context* ctx) const { return ggml_new_graph_custom(ctx, node_limit(), false); }

void Optimizer::compute(ggml_cgraph* graph) {
  if (ggml_backend_graph_compute(backend_, graph) != GGML_STATUS_SUCCESS) {
    throw Error("CLLM_TRAINING_FAILED", "ggml could not compute an optimiser step");
  }
}

void Optimizer::clear_gradients() {
  for (const auto& group : weights_.groups()) {
    if (group.gradient != nullptr) ggml_backend_tensor_memset(group.gradient, 0, 0, ggml_nbytes(group.gradient));
  }
}

float Optimizer::gradient_norm() {
  const GgmlContextPointer ctx = new_context();
  ggml_cgraph* graph = new_graph(ctx.get());
  std::vector<ggml_tensor*> sums;
  for (const auto& group : weights_.groups()) {
    if (group.gradient == nullptr) continue;
    ggml_tensor* g = group.gradient;
    for (int64_t row = 0; row < g->ne[1]; row += kNormRows) {
      ggml_tensor* part =
          ggml_view_2d(ctx.get(), g, g->ne[0], std::min(kNormRows, g->ne[1] - row), g->nb[1], row * g->nb[1]);
      sums.push_back(ggml_sum(ctx.get(), ggml_sqr(ctx.get(), part)));
      ggml_set_output(sums.back());
      ggml_build_forward_expand(graph, sums.back());
    }
  }
  if (!ggml_gallocr_alloc_graph(allocator_.get(), graph)) throw Error("CLLM_OUT_OF_MEMORY", "Not enough memory");
  compute(graph);
  double total = 0;
  for (const auto* sum : sums) {
    float value = 0;
    ggml_backend_tensor_get(sum, &value, 0, sizeof(value));
    total += value;
  }
  return static_cast<float>(std::sqrt(total));
}

void Optimizer::refresh(ggml_context* ctx, ggml_cgraph* graph) {
  for (const auto& group : weights_.groups()) {
    if (group.value != nullptr) ggml_build_forward_expand(graph, ggml_cpy(ctx, group.master, group.value));
  }
  for (const auto& p : weights_.all()) {
    if (!p.trained || p.transposed == nullptr) continue;
    if (!is_cpu(backend_)) {
      ggml_build_forward_expand(graph, ggml_cpy(ctx, ggml_transpose(ctx, p.master), p.transposed));
      continue;
    }
    // The result goes straight to its place: the graph's allocator leaves a tensor alone that has memory already.
    ggml_tensor* result = transpose_on_cpu(ctx, p.master, p.transposed->type);
    result->data = p.transposed->data;
    result->buffer = p.transposed->buffer;
    ggml_build_forward_expand(graph, result);
  }
}

void Optimizer::refresh() {
  const GgmlContextPointer ctx = new_context();
  ggml_cgraph* graph = new_graph(ctx.get());
  refresh(ctx.get(), graph);
  if (!ggml_gallocr_alloc_graph(allocator_.get(), graph)) throw Error("CLLM_OUT_OF_MEMORY", "Not enough memory");
  compute(graph);
}

float Optimizer::step(const AdamW& options, int64_t update) {
  const float norm = gradient_norm();
  if (!std::isfinite(norm)) return norm;
  const GgmlContextPointer ctx = new_context();
  ggml_cgraph* graph = new_graph(ctx.get());
  ggml_tensor* settings[2];  // for matrices, for vectors
  for (auto& tensor : settings) {
    tensor = ggml_new_tensor_1d(ctx.get(), GGML_TYPE_F32, 7);
    ggml_set_input(tensor);
  }
  const float shrink = options.clip > 0 && norm > options.clip ? options.clip / norm : 1;
  for (int vectors = 0; vectors < 2; vectors++) {
    const TrainedGroup& group = weights_.groups()[vectors];
    if (group.master == nullptr) continue;
    ggml_tensor* gradient = shrink < 1 ? ggml_scale_inplace(ctx.get(), group.gradient, shrink) : group.gradient;
    ggml_build_forward_expand(graph, ggml_opt_step_adamw(ctx.get(), group.master, gradient, group.first_moment,
                                                         group.second_moment, settings[vectors]));
  }
  refresh(ctx.get(), graph);
  if (!ggml_gallocr_alloc_graph(allocator_.get(), graph)) throw Error("CLLM_OUT_OF_MEMORY", "Not enough memory");
  for (int vector = 0; vector < 2; vector++) {
    if (settings[vector]->buffer == nullptr) continue;  // this group has no trained parameter
    const auto t = static_cast<double>(update);
    const float values[7] = {options.learning_rate,
                             options.beta1,
                             options.beta2,
                             options.epsilon,
                             vector == 1 ? 0 : options.weight_decay,
                             static_cast<float>(1 / (1 - std::pow(options.beta1, t))),
                             static_cast<float>(1 / (1 - std::pow(options.beta2, t)))};
    ggml_backend_tensor_set(settings[vector], values, 0, sizeof(values));
  }
  compute(graph);
  return norm;
}

}  // namespace cllm
