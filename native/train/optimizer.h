#pragma once

#include "train/weights.h"

namespace cllm {

struct AdamW {
  float learning_rate = 0;
  float beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f;
  float weight_decay = 0;  // only matrices are decayed, vectors are not
  float clip = 1;          // upper bound of the norm of all gradients together
};

/// AdamW with clipping by the global norm, on the weights' backend. A step also brings `value` and `transposed` of the
/// trained parameters up to the new `master`.
class Optimizer {
 public:
  /// Bytes for the squares of gradients, which are computed part by part.
  static constexpr size_t kSquareBytes = 16 << 20;

  Optimizer(Weights& weights, ggml_backend_t backend);
  void clear_gradients();
  /// Makes one update; `update` is its number, from 1 on. Returns the gradients' norm before clipping. A norm that is
  /// not finite leaves everything as it was.
  float step(const AdamW& options, int64_t update);
  /// Brings `value` and `transposed` up to `master`, after the masters were set from outside.
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
