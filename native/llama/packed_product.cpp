// Matrix products of ggml-cpu with packed weights: BF16 and the quantised formats.
#include "llama/packed_product.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "products/bf16_product.h"
#include "products/quantized_product.h"
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-function"  // functions of ggml-impl.h
#endif
#include "ggml-cpu/ggml-cpu-impl.h"

namespace cllm {

namespace {

constexpr int64_t kPanelRows = 2 * kPanelLanes;

/// The shared part of all products: it rounds the activations row by row before it multiplies.
class RoundedProduct : public PackedProduct {
 public:
  bool work_size(int, const ggml_tensor* op, size_t& size) override {
    size = static_cast<size_t>(ggml_nrows(op->src[1])) * rounded_size(op->src[0]->ne[0]);
    return true;
  }

  bool compute_forward(ggml_compute_params* params, ggml_tensor* op) override {
    const ggml_tensor *weight = op->src[0], *x = op->src[1];
    multiply(weight, rounded(params, x), ggml_nrows(x), static_cast<float*>(op->data), params->ith, params->nth);
    return true;
  }

 protected:
  /// Bytes of a rounded row of k activations.
  virtual size_t rounded_size(int64_t k) const = 0;
  /// Up to this many elements, every thread rounds all activations for itself, which costs less than a barrier.
  virtual int64_t max_rounded_by_each() const = 0;
  virtual void round(const float* x, int64_t k, char* to) const = 0;
  /// Multiplies the share of the rows of `weight` that belongs to thread `ith` of `nth`.
  virtual void multiply(const ggml_tensor* weight, const char* x, int64_t columns, float* out, int ith,
                        int nth) const = 0;

 private:
  const char* rounded(const ggml_compute_params* params, const ggml_tensor* x) const {
    const int64_t k = x->ne[0], rows = ggml_nrows(x);
    const size_t size = rounded_size(k);
    const auto round_row = [&](int64_t r, char* to) {
      const int64_t i1 = r % x->ne[1], i2 = r / x->ne[1] % x->ne[2], i3 = r / x->ne[1] / x->ne[2];
      const char* row = static_cast<const char*>(x->data) + i1 * x->nb[1] + i2 * x->nb[2] + i3 * x->nb[3];
      round(reinterpret_cast<const float*>(row), k, to + static_cast<size_t>(r) * size);
    };
    if (rows * k <= max_rounded_by_each()) {
      thread_local std::vector<char> private_copy;
      private_copy.resize(std::max(private_copy.size(), static_cast<size_t>(rows) * size));
      for (int64_t r = 0; r < rows; r++) round_row(r, private_copy.data());
      return private_copy.data();
    }
    auto* shared = static_cast<char*>(params->wdata);
    for (int64_t r = params->ith; r < rows; r += params->nth) round_row(r, shared);
    ggml_barrier(params->threadpool);
    return shared;
  }
};

class Bf16Product : public RoundedProduct {
 public:
  bool takes(const ggml_tensor* weight) const {
    return has_bf16_product() && weight->type == GGML_TYPE_BF16 && weight->ne[0] % 2 == 0 &&
           weight->ne[1] % kPanelRows == 0;
  }
  void pack(const ggml_tensor* weight, const void* from) const override {
    auto* packed = static_cast<uint32_t*>(weight->data);
    const int64_t pairs = weight->ne[0] / 2;
    for (int64_t panel = 0; panel < weight->ne[1] / kPanelRows; panel++) {
      pack_panel(static_cast<const char*>(from) + panel * kPanelRows * weight->nb[1], weight->nb[1], 2, pairs,
                 packed + panel * pairs * kPanelRows);
    }
  }

 protected:
  size_t rounded_size(int64_t k) const override { return static_cast<size_t>(k) * sizeof(uint16_t); }
  int64_t max_rounded_by_each() const override { return 1 << 16; }
  void round(const float* x, int64_t k, char* to) const override {
    round_to_bf16(x, reinterpret_cast<uint16_t*>(to), k);
  }
  void multiply(const ggml_tensor* weight, const char* x, int64_t columns, float* out, int ith,
                int nth) const override {
    const int64_t k = weight->ne[0], panels = weight->ne[1] / kPanelRows, size = k / 2 * kPanelRows;
    const int64_t begin = panels * ith / nth, end = panels * (ith + 1) / nth;
    panel_product(static_cast<const uint32_t*>(weight->data) + begin * size, 2, end - begin, k / 2, x, rounded_size(k),
                  columns, out + begin * kPanelRows, static_cast<size_t>(weight->ne[1]), false);
  }
};

class QuantizedProduct : public RoundedProduct {
 public:
  explicit QuantizedProduct(BlockFormat format) : format_(format) {}

  bool takes(const ggml_tensor* weight) const {
    return has_quantized_product() && format_of(weight->type) == format_ && weight->ne[1] % kBlockRows == 0 &&
           weight->ne[0] / kBlockWeights % block_multiple(format_) == 0;
  }
  void pack(const ggml_tensor* weight, const void* from) const override {
    pack_blocks(format_, from, weight->ne[1], weight->ne[0] / kBlockWeights, weight->data);
  }
  size_t packed_size(const ggml_tensor* weight) const override {
    return cllm::packed_bytes(format_, weight->ne[1], weight->ne[0] / kBlockWeights);
  }

 protected:
  size_t rounded_size(int64_t k) const override { return rounded_bytes(format_, k / kBlockWeights); }
  int64_t max_rounded_by_each() const override { return 1 << 11; }
  void round(const float* x, int64_t k, char* to) const override { round_to_blocks(format_, x, k / kBlockWeights, to); }
  void multiply(const ggml_tensor* weight, const char* x, int64_t columns, float* out, int ith,
                int nth) const override {
    const int64_t rows = weight->ne[1], panels = rows / kBlockRows;
    quantized_product(format_, weight->data, rows, weight->ne[0] / kBlockWeights, panels * ith / nth * kBlockRows,
                      panels * (ith + 1) / nth * kBlockRows, x, columns, out, rows);
  }

 private:
  static std::optional<BlockFormat> format_of(ggml_type type) {
    if (type == GGML_TYPE_Q4_0) return BlockFormat::kQ4_0;
    if (type == GGML_TYPE_Q4_1) return BlockFormat::kQ4_1;
    if (type == GGML_TYPE_Q8_0) return BlockFormat::kQ8_0;
    if (type == GGML_TYPE_Q4_K) return BlockFormat::kQ4_K;
    if (type == GGML_TYPE_Q6_K) return BlockFormat::kQ6_K;
    return {};
  }
  BlockFormat format_;
};

}  // namespace

PackedProduct* packed_product_of(const ggml_tensor* weight) {
  static Bf16Product bf16;
  static QuantizedProduct quantized[] = {QuantizedProduct(BlockFormat::kQ4_0), QuantizedProduct(BlockFormat::kQ4_1),
                                         QuantizedProduct(BlockFormat::kQ8_0), QuantizedProduct(BlockFormat::kQ4_K),
                                         QuantizedProduct(BlockFormat::kQ6_K)};
  if (weight->ne[2] != 1 || weight->ne[3] != 1 || weight->ne[1] == 0) return nullptr;
  if (bf16.takes(weight)) return &bf16;
  const auto found = std::find_if(std::begin(quantized), std::end(quantized),
                                  [&](const QuantizedProduct& product) { return product.takes(weight); });
  return found != std::end(quantized) ? found : nullptr;
}

}  // namespace cllm
