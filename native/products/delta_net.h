#pragma once

#include <cstddef>
#include <cstdint>

namespace cllm {

/// Tokens of one head of one sequence through the gated delta rule (Yang et al. 2024, "Gated Delta Networks", arXiv
/// 2412.06464): S_t = exp(g_t) S_(t-1) + beta_t k_t (v_t - (exp(g_t) S_(t-1))^T k_t)^T, out_t = S_t^T q_t / sqrt(size).
/// The state is kept transposed, as ggml does: row j is the column j of S. A row needs nothing of the other rows, so
/// each goes through all tokens at once, and the state is read and written once.
struct DeltaNetArgs {
  int64_t size = 0;  // elements of a row, and rows
  int64_t tokens = 0;
  const float* state = nullptr;  // [size, size], before the first token
  /// Token t has its values t strides behind the first one's; strides are in elements.
  const float *q = nullptr, *k = nullptr, *v = nullptr, *beta = nullptr;
  int64_t q_stride = 0, k_stride = 0, v_stride = 0, beta_stride = 0;
  const float* decay = nullptr;  // exp(g): [tokens], or [tokens, size] with a gate for each channel
  bool decays_by_channel = false;
  float* out = nullptr;  // [size] of the first token
  int64_t out_stride = 0;
  /// The state behind token t, for the last `planes` tokens, goes to stored + (tokens - 1 - t) * plane_stride.
  float* stored = nullptr;  // [size, size]
  int64_t plane_stride = 0;
  int64_t planes = 0;
  /// The dot product of two rows, ggml's own, so that the results are ggml's to the bit.
  void (*dot)(int count, float* sum, size_t, const float* x, size_t, const float* y, size_t, int one) = nullptr;
};

/// Computes the rows [first, end).
void delta_net(const DeltaNetArgs& args, int64_t first, int64_t end);

}  // namespace cllm
