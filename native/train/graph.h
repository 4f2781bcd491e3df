#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "train/weights.h"

namespace cllm {

/// Sizes of one pass, fixed for a graph: B rows of L tokens, of whose positions at most N carry a label.
struct TrainingShape {
  int rows = 1;
  int length = 512;
  int labels = 384;
};

/// What goes into one pass. The token arrays are flat, over T = rows * length tokens, row by row.
struct PassInput {
  std::vector<int32_t> tokens;     // [T]
  std::vector<int32_t> positions;  // [T] within the sequence that the token belongs to
  std::vector<float> mask;         // [rows, length (query), length (key)], 0 or -INFINITY; a token sees itself
  // Labels: arrays of equal length, at most N. run() fills them up to N with labels that weigh nothing.
  std::vector<int32_t> at;      // index of the token, 0 <= at < T
  std::vector<int32_t> target;  // the token that should be chosen there
  std::vector<float> hard;      // weight of the cross entropy against `target`
  std::vector<float> soft;      // weight of the cross entropy against the distribution at label `soft_source`
  std::vector<int32_t> soft_source;
};

/// What comes out of one pass, one entry per label.
struct LabelResults {
  std::vector<int32_t> choice;     // the token with the largest logit
  std::vector<float> probability;  // probability of `target`
};

/// Forward and backward pass of one shape as one ggml graph. It consists of public ggml operations, and on the CPU also
/// of custom ones (transpose.h, product.h). The backward pass is written out here, because ggml's own needs F32 weights
/// and out_prod, which has no fast kernel. Every product is a mul_mat: dx = W^T dy with a transposed copy of W, dW = x
/// dy^T with transposed x and dy.
///
/// The gradient of   sum_i hard_i * CE(target_i) + soft_i * CE(stop_gradient(p[soft_source_i]))   over the labels is
/// ADDED to the `gradient` of each trained parameter. Soft targets come from clean positions of the same pass, so
/// consistency training (CLLM, arXiv 2403.00835, section 3.2; packed as in Jacobi Forcing, arXiv 2512.14681) needs no
/// teacher pass.
class TrainingGraph {
 public:
  TrainingGraph(Weights& weights, ggml_backend_t backend, const TrainingShape& shape);

  /// Bytes of activations. They are known before any memory is taken.
  size_t bytes() const { return bytes_; }
  const TrainingShape& shape() const { return shape_; }
  /// Throws Error CLLM_OUT_OF_MEMORY.
  void allocate();
  /// Throws Error CLLM_TRAINING_FAILED, CLLM_ABORTED (the backend's abort callback).
  LabelResults run(const PassInput& input);
  /// For tests: makes probabilities() available. Call it before allocate().
  void keep_probabilities();
  /// [N, vocab] probabilities of the last pass.
  std::vector<float> probabilities() const;

 private:
  /// The values of a layer's forward pass that the backward pass needs. Cheap values are computed again and not kept.
  struct Layer {
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

  void build();
  ggml_tensor* input(ggml_type type, int64_t ne0, int64_t ne1 = 1, int64_t ne2 = 1, int64_t ne3 = 1);
  ggml_tensor* constant(float value, int64_t ne0, int64_t ne1);  // each pass fills it
  ggml_tensor* multiply(ggml_tensor* a, ggml_tensor* b);         // as ggml_mul_mat
  ggml_tensor* rounded(ggml_tensor* x);                          // to BF16
  ggml_tensor* left_operand(ggml_tensor* x);                     // as first operand of a product
  ggml_tensor* right_operand(ggml_tensor* x);                    // as second operand of a product
  ggml_tensor* transposed(ggml_tensor* x, ggml_type type);
  ggml_tensor* transposed_left(ggml_tensor* x) { return transposed(x, product_); }
  // Backends other than the CPU's take F32 as second operand.
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
  /// dx of a linear map with the input x; adds to the gradients of its parameters.
  ggml_tensor* linear_back(const std::string& name, ggml_tensor* x, ggml_tensor* dy);
  ggml_tensor* sum_columns(ggml_tensor* x, ggml_tensor* like);  // [in, ...] -> [in], the shape of the vector `like`
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
  bool custom_product_;  // BF16 products are those of product.h
  ggml_type product_;
  TrainingShape shape_;
  int64_t token_count_;
  size_t bytes_ = 0;
  GgmlContextPointer ctx_;
  ggml_cgraph* graph_ = nullptr;
  AllocatorPointer allocator_;

  ggml_tensor *rounded_from_ = nullptr, *rounded_ = nullptr;  // argument and result of the last rounded()
  ggml_tensor *tokens_, *positions_, *mask_, *at_, *flat_, *flat64_, *hard_, *soft_, *weight_, *soft_source_;
  ggml_tensor *label_at_, *token_places_ = nullptr;
  ggml_tensor *choice_ = nullptr, *probability_ = nullptr, *probabilities_ = nullptr;
};

}  // namespace cllm
