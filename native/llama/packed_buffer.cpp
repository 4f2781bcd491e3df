#include "llama/packed_buffer.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "ggml-cpu.h"
#include "llama/packed_attention.h"
#include "products/bf16_product.h"
#include "products/quantized_product.h"
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-function"  // of ggml-impl.h
#endif
#include "ggml-backend-impl.h"
#include "ggml-cpu/ggml-cpu-impl.h"
#include "ggml-cpu/traits.h"
#include "llama-model.h"

// An "extra buffer type" of ggml-cpu, as its own repacked 4-bit formats are: llama.cpp's loader offers a weight to each
// of them and takes the first that supports its operation (ggml/src/ggml-cpu/repack.cpp is the model for this file).

namespace cllm {

namespace {

constexpr int64_t kPanelRows = 2 * kPanelLanes;

/// Products with one kind of packed weights. Activations are rounded first, row by row.
class Product : public ggml::cpu::tensor_traits {
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

  virtual bool takes(const ggml_tensor* weight) const = 0;
  virtual void pack(const ggml_tensor* weight, const void* from) const = 0;
  virtual size_t packed_size(const ggml_tensor* weight) const { return ggml_nbytes(weight); }

 protected:
  /// Bytes of a row of k activations.
  virtual size_t rounded_size(int64_t k) const = 0;
  /// Up to so many elements each thread rounds all activations for itself: that costs less than waiting for one
  /// another.
  virtual int64_t rounded_by_each() const = 0;
  virtual void round(const float* x, int64_t k, char* to) const = 0;
  /// Thread `ith` of `nth`'s share of the rows of `weight`.
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
    if (rows * k <= rounded_by_each()) {
      thread_local std::vector<char> own;
      own.resize(std::max(own.size(), static_cast<size_t>(rows) * size));
      for (int64_t r = 0; r < rows; r++) round_row(r, own.data());
      return own.data();
    }
    auto* shared = static_cast<char*>(params->wdata);
    for (int64_t r = params->ith; r < rows; r += params->nth) round_row(r, shared);
    ggml_barrier(params->threadpool);
    return shared;
  }
};

class Bf16Product : public Product {
 public:
  bool takes(const ggml_tensor* weight) const override {
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
  int64_t rounded_by_each() const override { return 1 << 16; }
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

class QuantizedProduct : public Product {
 public:
  explicit QuantizedProduct(BlockFormat format) : format_(format) {}

  bool takes(const ggml_tensor* weight) const override {
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
  int64_t rounded_by_each() const override { return 1 << 11; }
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

/// The product that takes this weight, or null.
Product* product_of(const ggml_tensor* weight) {
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

ggml_backend_buffer_type_t buffer_type();

bool is_packed(const ggml_tensor* weight) { return weight->buffer != nullptr && weight->buffer->buft == buffer_type(); }

// Back over rotation, norm, bias and views to the product with the query weights.
bool comes_from_packed(const ggml_tensor* x) {
  constexpr int kMostSteps = 12;
  for (int step = 0; step < kMostSteps && x != nullptr; step++, x = x->src[0]) {
    if (x->op == GGML_OP_MUL_MAT) return is_packed(x->src[0]);
  }
  return false;
}

class Extra : public ggml::cpu::extra_buffer_type {
 public:
  bool supports_op(ggml_backend_dev_t, const ggml_tensor* op) override {
    return is_ours(op) && product_of(op->src[0]) != nullptr && op->src[1]->type == GGML_TYPE_F32 &&
           (op->src[1]->buffer == nullptr || ggml_backend_buft_is_host(op->src[1]->buffer->buft));
  }
  ggml::cpu::tensor_traits* get_tensor_traits(const ggml_tensor* op) override {
    if (op->op == GGML_OP_FLASH_ATTN_EXT) return comes_from_packed(op->src[0]) ? packed_attention(op) : nullptr;
    return is_ours(op) ? static_cast<ggml::cpu::tensor_traits*>(op->src[0]->extra) : nullptr;
  }

 private:
  static bool is_ours(const ggml_tensor* op) { return op->op == GGML_OP_MUL_MAT && is_packed(op->src[0]); }
};

ggml_status init_tensor(ggml_backend_buffer_t, ggml_tensor* tensor) {
  tensor->extra = product_of(tensor);
  return GGML_STATUS_SUCCESS;
}

void set_tensor(ggml_backend_buffer_t, ggml_tensor* tensor, const void* data, size_t offset, size_t size) {
  const Product* product = product_of(tensor);
  GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor) && product != nullptr);
  product->pack(tensor, data);
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
  ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
  if (buffer == nullptr) return nullptr;
  buffer->buft = type;
  buffer->iface.init_tensor = init_tensor;
  buffer->iface.set_tensor = set_tensor;
  buffer->iface.get_tensor = nullptr;
  buffer->iface.cpy_tensor = nullptr;
  return buffer;
}

ggml_backend_buffer_type_t buffer_type() {
  static Extra extra;
  static ggml_backend_buffer_type type = {
      /* .iface   = */ {
          /* .get_name       = */ [](ggml_backend_buffer_type_t) { return "CPU_PACKED"; },
          /* .alloc_buffer   = */ alloc_buffer,
          /* .get_alignment  = */ [](ggml_backend_buffer_type_t) -> size_t { return 64; },
          /* .get_max_size   = */ nullptr,
          /* .get_alloc_size = */
          [](ggml_backend_buffer_type_t, const ggml_tensor* tensor) {
            const Product* product = product_of(tensor);
            return product != nullptr ? product->packed_size(tensor) : ggml_nbytes(tensor);
          },
          /* .is_host        = */ nullptr,
      },
      /* .device  = */ ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0),
      /* .context = */ &extra,
  };
  return &type;
}

}  // namespace

void register_packed_buffer() {
  if (!has_bf16_product() && !has_quantized_product()) return;
  // Before ggml's own, which pack Q4_0 too.
  auto& types = ggml_backend_cpu_get_extra_buffer_types();
  types.insert(types.begin(), buffer_type());
}

uint64_t packed_weights(const llama_model* model) {
  const auto& types = ggml_backend_cpu_get_extra_buffer_types();
  uint64_t sum = 0;
  for (const auto& [type, bytes] : model->memory_breakdown()) {
    if (std::find(types.begin(), types.end(), type) != types.end()) sum += bytes;
  }
  return sum;
}

}  // namespace cllm
