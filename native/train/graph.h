#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "train/weights.h"

namespace cllm {

/// Sizes of one pass, fixed for a graph: B rows of L tokens, at most N of all their positions with a label.
struct TrainingShape {
  int rows = 1;
  int length = 512;
  int labels = 384;
};

/// What goes into one pass. Flat arrays over T = rows * length tokens, row by row.
struct PassInput {
  std::vector<int32_t> tokens;     // [T]
  std::vector<int32_t> positions;  // [T] within the sequence the token belongs to
  std::vector<float> mask;         // [rows, length (query), length (key)], 0 or -INFINITY; a token sees itself
  // Labels, one entry each, all at most N; shorter ones are filled up with labels that weigh nothing.
  std::vector<int32_t> at;      // which of the T positions
  std::vector<int32_t> target;  // the token that should be chosen there
  std::vector<float> hard;      // weight of the cross entropy against `target`
  std::vector<float> soft;      // weight of the cross entropy against the distribution at label `soft_source`
  std::vector<int32_t> soft_source;
};

/// What comes back, one entry per label.
struct PassResult {
  std::vector<int32_t> choice;     // the largest logit
  std::vector<float> probability;  // of `target`
};

/// Forward and backward pass of one shape as one ggml graph, in public ggml operations alone (and a custom transpose on
/// the CPU backend), the backward pass written out: ggml's own needs F32 weights and its out_prod, which has no fast
/// kernel. Every product is a mul_mat: dx = W^T dy with a transposed copy of W, dW = x dy^T with transposed x and dy.
///
/// The gradient of   sum_i hard_i * CE(target_i) + soft_i * CE(stop_gradient(p[soft_source_i]))   over the labels is
/// ADDED to each trained parameter's `gradient`. Soft targets come from clean positions of the same pass, so
/// consistency training (CLLM, arXiv 2403.00835, section 3.2; packed as in Jacobi Forcing, arXiv 2512.14681) needs no
/// teacher pass.
class TrainingGraph {
 public:
  TrainingGraph(Weights& weights, ggml_backend_t backend, const TrainingShape& shape);

  /// Bytes of activations; known before any memory is taken.
  size_t bytes() const { return bytes_; }
  const TrainingShape& shape() const { return shape_; }
  /// Throws Error CLLM_OUT_OF_MEMORY.
  void allocate();
  /// Throws Error CLLM_TRAINING_FAILED, CLLM_ABORTED (the backend's abort callback).
  PassResult run(const PassInput& input);
  /// [N, vocab] probabilities of the last pass; only for tests, before allocate().
  void keep_probabilities();
  std::vector<float> probabilities() const;

 private:
  struct Layer;

  void build();
  ggml_tensor* input(ggml_type type, int64_t ne0, int64_t ne1 = 1, int64_t ne2 = 1, int64_t ne3 = 1);
  ggml_tensor* constant(float value, int64_t ne0, int64_t ne1);  // filled in each pass
  ggml_tensor* multiply(ggml_tensor* a, ggml_tensor* b);         // as ggml_mul_mat
  ggml_tensor* rounded(ggml_tensor* x);
  ggml_tensor* left(ggml_tensor* x);   // as first operand of a product
  ggml_tensor* right(ggml_tensor* x);  // as second
  ggml_tensor* transposed(ggml_tensor* x, ggml_type type);
  ggml_tensor* transposed_left(ggml_tensor* x) { return transposed(x, product_); }
  // Other backends take F32 as second operand.
  ggml_tensor* transposed_right(ggml_tensor* x) { return transposed(x, on_cpu_ ? product_ : GGML_TYPE_F32); }
  ggml_tensor* normed(ggml_tensor* x, const Parameter& weight);
  ggml_tensor* linear(const std::string& name, ggml_tensor* x);
  ggml_tensor* rotate(ggml_tensor* x, bool back);
  ggml_tensor* to_heads(ggml_tensor* x, int heads);    // [size * heads, T] -> view [size, L, heads, B]
  ggml_tensor* from_heads(ggml_tensor* x, int heads);  // [size, L, heads, B] -> [size * heads, T]
  ggml_tensor* forward(Layer& layer, ggml_tensor* x);
  ggml_tensor* backward(Layer& layer, ggml_tensor* dout);
  ggml_tensor* attention_back(Layer& layer, ggml_tensor* doutput);
  ggml_tensor* head_back(ggml_tensor* probabilities);
  ggml_tensor* embedding_back(ggml_tensor* dx, ggml_tensor* like);
  /// dx of y = norm(x) * weight.
  ggml_tensor* norm_back(const Parameter& weight, ggml_tensor* x, ggml_tensor* dy);
  /// dx of a linear map with the input x; adds to its gradients.
  ggml_tensor* linear_back(const std::string& name, ggml_tensor* x, ggml_tensor* dy);
  ggml_tensor* sum_columns(ggml_tensor* x, ggml_tensor* like);  // [in, ...] -> [in], as the vector `like`
  ggml_tensor* sum_heads(ggml_tensor* x);                       // [size, L, heads, B] -> [size, L, kv_heads, B]
  void accumulate(const Parameter& parameter, ggml_tensor* gradient);
  void expand(ggml_tensor* x) { ggml_build_forward_expand(graph_, x); }
  ggml_tensor* node(ggml_tensor* x) {
    expand(x);
    return x;
  }

  Weights& weights_;
  const Architecture& arch_;
  ggml_backend_t backend_;
  bool on_cpu_;
  bool own_product_;  // see product.h
  ggml_type product_;
  TrainingShape shape_;
  int64_t tokens_count_;
  size_t bytes_ = 0;
  GgmlContextPointer ctx_;
  ggml_cgraph* graph_ = nullptr;
  AllocatorPointer allocator_;

  ggml_tensor *rounded_from_ = nullptr, *rounded_ = nullptr;
  ggml_tensor *tokens_, *positions_, *mask_, *at_, *flat_, *flat64_, *hard_, *soft_, *weight_, *soft_source_;
  ggml_tensor *label_at_, *token_places_ = nullptr;
  ggml_tensor *choice_ = nullptr, *probability_ = nullptr, *probabilities_ = nullptr;
};

}  // namespace cllm
