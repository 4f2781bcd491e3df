#pragma once

#include "train/weights.h"

namespace cllm {

struct AdamW {
  float learning_rate = 0;
  float beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f;
  float weight_decay = 0;  // of matrices; vectors are not decayed
  float clip = 1;          // largest norm of all gradients together
};

/// AdamW with clipping by the global norm, on the weights' backend. Afterwards `value` and `transposed` of the trained
/// parameters are those of the new `master`.
class Optimizer {
 public:
  /// Taken for the squares of gradients, of a part of them at a time.
  static constexpr size_t kSquareBytes = 16 << 20;

  Optimizer(Weights& weights, ggml_backend_t backend);
  void clear_gradients();
  /// `update` counts from 1. Returns the norm before clipping; where that is not finite, nothing is changed.
  float step(const AdamW& options, int64_t update);
  /// After master weights were set from outside.
  void refresh();

 private:
  float gradient_norm();
  void compute(ggml_cgraph* graph);
  size_t node_limit() const;
  GgmlContextPointer new_context() const;
  ggml_cgraph* new_graph(ggml_context* ctx) const;
  void refresh(ggml_context* ctx, ggml_cgraph* graph);

  Weights& weights_;
  ggml_backend_t backend_;
  AllocatorPointer allocator_;
};

}  // namespace cllm
