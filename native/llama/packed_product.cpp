// Matrix products of ggml-cpu with packed weights: BF16, F16 and the quantised formats.
#include "llama/packed_product.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "llama/packed_buffer.h"
#include "products/bf16_product.h"
#include "products/product_set.h"
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-function"  // functions of ggml-impl.h
#endif
#include "ggml-cpu/ggml-cpu-impl.h"

namespace cllm {

namespace {

constexpr int64_t kBf16PanelRows = 2 * kPanelLanes;

/// Columns as a product reads them.
struct Columns {
  const char* data = nullptr;
  size_t stride = 0;  // bytes from one to the next
  int64_t count = 0;
};

/// What a thread knows about the products of the graph that it plans, which ggml does node by node in the order of
/// computation, just before it computes them.
struct Planning {
  const ggml_tensor* x = nullptr;
  const PackedProduct* product = nullptr;
  std::vector<char> rounded;  // the last activations that all threads rounded together
};
thread_local Planning planning;

/// Whether a product uses the columns of the product before it is written here, among an operation's parameters.
constexpr int kSharesColumns = 15;

/// The shared part of all products: it rounds the activations row by row before it multiplies. Neighbouring products of
/// the same activations, as those of queries, keys and values, round them once.
class RoundedProduct : public PackedProduct {
 public:
  bool work_size(int, const ggml_tensor* op, size_t& size) override {
    size = 0;
    if (ggml_is_empty(op)) return true;  // which is not computed
    const ggml_tensor* x = op->src[1];
    auto* planned = const_cast<ggml_tensor*>(op);
    const bool shares = planning.x == x && planning.product == this;
    ggml_set_op_params_i32(planned, kSharesColumns, shares);
    planned->extra = &planning.rounded;
    planning.x = x;
    planning.product = this;
    const size_t bytes = static_cast<size_t>(ggml_nrows(x)) * rounded_size(op->src[0]->ne[0]);
    if (planning.rounded.size() < bytes) planning.rounded.resize(bytes);
    return true;
  }

  bool compute_forward(ggml_compute_params* params, ggml_tensor* op) override {
    thread_local Columns columns;
    // The thread that plans is the first that computes, and plans a graph as a whole: the next plan is another graph's.
    if (params->ith == 0) planning.x = nullptr;
    if (ggml_get_op_params_i32(op, kSharesColumns) == 0) columns = columns_of(params, op);
    multiply(op->src[0], columns, static_cast<float*>(op->data), params->ith, params->nth);
    return true;
  }

 protected:
  /// Bytes of a rounded row of k activations.
  virtual size_t rounded_size(int64_t k) const = 0;
  /// Up to this many elements, every thread rounds all activations for itself, which costs less than a barrier.
  virtual int64_t max_rounded_by_each() const = 0;
  virtual void round(const float* x, int64_t k, char* to) const = 0;
  /// Whether activations are used as they are.
  virtual bool takes_unrounded() const { return false; }
  /// Multiplies the share of the rows of `weight` that belongs to thread `ith` of `nth`.
  virtual void multiply(const ggml_tensor* weight, const Columns& x, float* out, int ith, int nth) const = 0;

 private:
  Columns columns_of(const ggml_compute_params* params, const ggml_tensor* op) const {
    const ggml_tensor* x = op->src[1];
    const int64_t k = x->ne[0], rows = ggml_nrows(x);
    const size_t size = rounded_size(k);
    if (takes_unrounded() && ggml_is_contiguous(x)) return {static_cast<const char*>(x->data), x->nb[1], rows};
    const auto round_row = [&](int64_t r, char* to) {
      const int64_t i1 = r % x->ne[1], i2 = r / x->ne[1] % x->ne[2], i3 = r / x->ne[1] / x->ne[2];
      const char* row = static_cast<const char*>(x->data) + i1 * x->nb[1] + i2 * x->nb[2] + i3 * x->nb[3];
      round(reinterpret_cast<const float*>(row), k, to + static_cast<size_t>(r) * size);
    };
    if (rows * k <= max_rounded_by_each()) {
      thread_local std::vector<char> private_copy;
      private_copy.resize(std::max(private_copy.size(), static_cast<size_t>(rows) * size));
      for (int64_t r = 0; r < rows; r++) round_row(r, private_copy.data());
      return {private_copy.data(), size, rows};
    }
    char* shared = static_cast<std::vector<char>*>(op->extra)->data();
    for (int64_t r = params->ith; r < rows; r += params->nth) round_row(r, shared);
    ggml_barrier(params->threadpool);
    return {shared, size, rows};
  }
};

class Bf16Product : public RoundedProduct {
 public:
  bool takes(const ggml_tensor* weight) const {
    return has_bf16_product() && weight->type == GGML_TYPE_BF16 && weight->ne[0] % 2 == 0 &&
           weight->ne[1] % kBf16PanelRows == 0;
  }
  void pack(const ggml_tensor* weight, const void* from) const override {
    auto* packed = static_cast<uint32_t*>(weight->data);
    const int64_t pairs = weight->ne[0] / 2;
    for (int64_t panel = 0; panel < weight->ne[1] / kBf16PanelRows; panel++) {
      pack_panel(static_cast<const char*>(from) + panel * kBf16PanelRows * weight->nb[1], weight->nb[1], 2, pairs,
                 packed + panel * pairs * kBf16PanelRows);
    }
  }

 protected:
  size_t rounded_size(int64_t k) const override { return static_cast<size_t>(k) * sizeof(uint16_t); }
  int64_t max_rounded_by_each() const override { return 1 << 16; }
  void round(const float* x, int64_t k, char* to) const override {
    round_to_bf16(x, reinterpret_cast<uint16_t*>(to), k);
  }
  void multiply(const ggml_tensor* weight, const Columns& x, float* out, int ith, int nth) const override {
    const int64_t k = weight->ne[0], panels = weight->ne[1] / kBf16PanelRows, size = k / 2 * kBf16PanelRows;
    const int64_t begin = panels * ith / nth, end = panels * (ith + 1) / nth;
    panel_product(static_cast<const uint32_t*>(weight->data) + begin * size, 2, end - begin, k / 2, x.data, x.stride,
                  x.count, out + begin * kBf16PanelRows, static_cast<size_t>(weight->ne[1]), false);
  }
};

/// Products whose weights lie in panels of 16 rows. Rows that a matrix lacks for its last panel are packed as zeros.
class PanelProduct : public RoundedProduct {
 public:
  void pack(const ggml_tensor* weight, const void* from) const override {
    const int64_t rows = weight->ne[1], padded = panels_of(weight) * kBlockRows;
    if (rows == padded) return pack_rows(weight, from, padded);
    std::vector<char> copy(static_cast<size_t>(padded) * weight->nb[1]);
    std::memcpy(copy.data(), from, static_cast<size_t>(rows) * weight->nb[1]);
    pack_rows(weight, copy.data(), padded);
  }
  size_t packed_size(const ggml_tensor* weight) const override {
    return packed_rows_size(weight, panels_of(weight) * kBlockRows);
  }

 protected:
  virtual void pack_rows(const ggml_tensor* weight, const void* from, int64_t rows) const = 0;
  virtual size_t packed_rows_size(const ggml_tensor* weight, int64_t rows) const = 0;
  /// Multiplies the panels [first, end); `out` points to the result of row 0.
  virtual void multiply_panels(const ggml_tensor* weight, int64_t first, int64_t end, const Columns& x, float* out,
                               int64_t stride) const = 0;

  static int64_t panels_of(const ggml_tensor* weight) { return (weight->ne[1] + kBlockRows - 1) / kBlockRows; }

  void multiply(const ggml_tensor* weight, const Columns& x, float* out, int ith, int nth) const override {
    const int64_t rows = weight->ne[1], full = rows / kBlockRows, panels = panels_of(weight);
    const int64_t first = panels * ith / nth, end = panels * (ith + 1) / nth;
    multiply_panels(weight, first, std::min(end, full), x, out, rows);
    if (end <= full) return;
    thread_local std::vector<float> last;
    last.resize(std::max(last.size(), static_cast<size_t>(x.count * kBlockRows)));
    multiply_panels(weight, full, end, x, last.data() - full * kBlockRows, kBlockRows);
    for (int64_t j = 0; j < x.count; j++) {
      std::copy_n(last.data() + j * kBlockRows, rows - full * kBlockRows, out + j * rows + full * kBlockRows);
    }
  }
};

class PackedHalves : public PanelProduct {
 public:
  PackedHalves(ggml_type type, HalfFormat format) : type_(type), format_(format) {}

  bool takes(const ggml_tensor* weight) const {
    return product_set() != nullptr && weight->type == type_ && weight->ne[0] % 2 == 0;
  }

 protected:
  void pack_rows(const ggml_tensor* weight, const void* from, int64_t rows) const override {
    for (int64_t row = 0; row < rows; row += kHalfRows) {
      pack_halves(format_, static_cast<const char*>(from) + row * weight->nb[1], weight->nb[1], weight->ne[0],
                  static_cast<char*>(weight->data) + row / kHalfRows * half_panel_bytes(weight->ne[0]));
    }
  }
  size_t packed_rows_size(const ggml_tensor* weight, int64_t rows) const override {
    return static_cast<size_t>(rows / kHalfRows * half_panel_bytes(weight->ne[0]));
  }
  size_t rounded_size(int64_t k) const override { return static_cast<size_t>(k) * sizeof(float); }
  int64_t max_rounded_by_each() const override { return 1 << 13; }
  bool takes_unrounded() const override { return true; }
  void round(const float* x, int64_t k, char* to) const override {
    std::memcpy(to, x, static_cast<size_t>(k) * sizeof(float));
  }
  void multiply_panels(const ggml_tensor* weight, int64_t first, int64_t end, const Columns& x, float* out,
                       int64_t stride) const override {
    const int64_t k = weight->ne[0];
    product_set()->half_product(format_, static_cast<const char*>(weight->data) + first * half_panel_bytes(k),
                                end - first, k, reinterpret_cast<const float*>(x.data), static_cast<int64_t>(x.stride),
                                x.count, out + first * kHalfRows, stride);
  }

 private:
  ggml_type type_;
  HalfFormat format_;
};

class PackedBlocks : public PanelProduct {
 public:
  explicit PackedBlocks(BlockFormat format) : format_(format) {}

  bool takes(const ggml_tensor* weight) const {
    return product_set() != nullptr && format_of(weight->type) == format_ &&
           weight->ne[0] / kBlockWeights % block_multiple(format_) == 0;
  }

 protected:
  void pack_rows(const ggml_tensor* weight, const void* from, int64_t rows) const override {
    pack_blocks(format_, from, rows, weight->ne[0] / kBlockWeights, weight->data);
  }
  size_t packed_rows_size(const ggml_tensor* weight, int64_t rows) const override {
    return cllm::packed_bytes(format_, rows, weight->ne[0] / kBlockWeights);
  }
  size_t rounded_size(int64_t k) const override { return rounded_bytes(format_, k / kBlockWeights); }
  int64_t max_rounded_by_each() const override { return 1 << 11; }
  void round(const float* x, int64_t k, char* to) const override {
    product_set()->round_to_blocks(format_, x, k / kBlockWeights, to);
  }
  void multiply_panels(const ggml_tensor* weight, int64_t first, int64_t end, const Columns& x, float* out,
                       int64_t stride) const override {
    product_set()->quantized_product(format_, weight->data, panels_of(weight) * kBlockRows,
                                     weight->ne[0] / kBlockWeights, first * kBlockRows, end * kBlockRows, x.data,
                                     x.count, out, stride);
  }

 private:
  static std::optional<BlockFormat> format_of(ggml_type type) {
    switch (type) {
      case GGML_TYPE_Q4_0: return BlockFormat::kQ4_0;
      case GGML_TYPE_Q4_1: return BlockFormat::kQ4_1;
      case GGML_TYPE_Q5_0: return BlockFormat::kQ5_0;
      case GGML_TYPE_Q5_1: return BlockFormat::kQ5_1;
      case GGML_TYPE_Q8_0: return BlockFormat::kQ8_0;
      case GGML_TYPE_Q4_K: return BlockFormat::kQ4_K;
      case GGML_TYPE_Q5_K: return BlockFormat::kQ5_K;
      case GGML_TYPE_Q6_K: return BlockFormat::kQ6_K;
      default: return {};
    }
  }
  BlockFormat format_;
};

}  // namespace

void begin_pass() { planning.x = nullptr; }

PackedProduct* packed_product_of(const ggml_tensor* weight) {
  static Bf16Product bf16;
  static PackedHalves halves[] = {{GGML_TYPE_F16, HalfFormat::kF16}, {GGML_TYPE_BF16, HalfFormat::kBf16}};
  static PackedBlocks quantized[] = {PackedBlocks(BlockFormat::kQ4_0), PackedBlocks(BlockFormat::kQ4_1),
                                     PackedBlocks(BlockFormat::kQ5_0), PackedBlocks(BlockFormat::kQ5_1),
                                     PackedBlocks(BlockFormat::kQ8_0), PackedBlocks(BlockFormat::kQ4_K),
                                     PackedBlocks(BlockFormat::kQ5_K), PackedBlocks(BlockFormat::kQ6_K)};
  if (weight->ne[2] != 1 || weight->ne[3] != 1 || weight->ne[1] == 0) return nullptr;
  if (bf16.takes(weight)) return &bf16;
  for (PackedHalves& product : halves) {
    if (product.takes(weight)) return &product;
  }
  for (PackedBlocks& product : quantized) {
    if (product.takes(weight)) return &product;
  }
  return nullptr;
}

}  // namespace cllm
