#pragma once

// CMakeLists.txt includes this header in llama.cpp's graphs of delta nets (-include), so that their source stays
// unchanged.
//
// The operator leaves the states behind a block's tokens in its result, from where the graph copies them to the cache:
// at Qwen3.5 0.8B's size 154 MB are written twice for a block of 8. Where delta_net.cpp computes the operator, the
// cache becomes one of its sources instead, and it writes the states there itself.
#include "ggml-backend.h"
#include "missing_tensors.h"

/// Whether delta_net.cpp computes an operator; null where it is not registered. Only what links it sets this.
inline bool (*cllm_stores_states)(const ggml_tensor* op) = nullptr;
/// The source that names where states go.
constexpr int kStateStore = 6;

static inline ggml_tensor* cllm_store(ggml_context* context, ggml_tensor* from, ggml_tensor* to) {
  ggml_tensor* op = from->view_src;
  const bool is_states = op != nullptr && op->op == GGML_OP_GATED_DELTA_NET && op->src[kStateStore] == nullptr;
  const ggml_tensor* cache = to->view_src;
  const bool on_cpu = cache != nullptr && cache->buffer != nullptr && ggml_backend_buffer_is_host(cache->buffer);
  if (cllm_stores_states == nullptr || !is_states || !on_cpu || !cllm_stores_states(op))
    return ggml_cpy(context, from, to);
  op->src[kStateStore] = to;
  return op;
}

#define ggml_cpy(context, from, to) cllm_store(context, from, to)
