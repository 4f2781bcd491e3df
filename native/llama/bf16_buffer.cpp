#include "llama/bf16_buffer.h"

#include <vector>

#include "ggml-cpu.h"
#include "kernels/bf16_product.h"
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-function"  // of ggml-impl.h
#endif
#include "ggml-backend-impl.h"
#include "ggml-cpu/ggml-cpu-impl.h"
#include "ggml-cpu/traits.h"

// An "extra buffer type" of ggml-cpu, as its own repacked 4-bit formats are: llama.cpp's loader offers a weight to each
// of them and takes the first that supports its operation (ggml/src/ggml-cpu/repack.cpp is the model for this file).

namespace cllm {

namespace {

constexpr int64_t kPanelRows = 2 * kPanelLanes;
// Up to so many elements each thread rounds the activations for itself, which costs less than waiting for one another.
constexpr int64_t kRoundedByEach = 1 << 16;

bool is_packable(const ggml_tensor* weight) {
  return weight->type == GGML_TYPE_BF16 && weight->ne[2] == 1 && weight->ne[3] == 1 && weight->ne[0] % 2 == 0 &&
         weight->ne[1] % kPanelRows == 0 && weight->ne[1] > 0;
}

class Traits : public ggml::cpu::tensor_traits {
 public:
  bool work_size(int, const ggml_tensor* op, size_t& size) override {
    size = ggml_nelements(op->src[1]) * sizeof(uint16_t);
    return true;
  }

  bool compute_forward(ggml_compute_params* params, ggml_tensor* op) override {
    const ggml_tensor *weight = op->src[0], *x = op->src[1];
    const int64_t k = weight->ne[0], columns = ggml_nrows(x), pairs = k / 2, panels = weight->ne[1] / kPanelRows;
    const uint16_t* rounded = round(params, x, columns, k);
    const auto* packed = static_cast<const uint32_t*>(weight->data);
    const int64_t size = pairs * kPanelRows;
    auto* out = static_cast<float*>(op->data);
    const int64_t begin = panels * params->ith / params->nth, end = panels * (params->ith + 1) / params->nth;
    for (int64_t panel = begin; panel < end; panel++) {
      float* c = out + panel * kPanelRows;
      if (columns == 1 && panel + 1 < end) {
        two_panel_product(packed + panel * size, packed + (panel + 1) * size, pairs, rounded, c);
        panel++;
        continue;
      }
      panel_product(packed + panel * size, 2, pairs, rounded, k * sizeof(uint16_t), columns, c, weight->ne[1], false);
    }
    return true;
  }

 private:
  static const uint16_t* round(const ggml_compute_params* params, const ggml_tensor* x, int64_t rows, int64_t k) {
    const auto row = [&](int64_t r) {
      const int64_t i1 = r % x->ne[1], i2 = r / x->ne[1] % x->ne[2], i3 = r / x->ne[1] / x->ne[2];
      return reinterpret_cast<const float*>(static_cast<const char*>(x->data) + i1 * x->nb[1] + i2 * x->nb[2] +
                                            i3 * x->nb[3]);
    };
    if (rows * k <= kRoundedByEach) {
      thread_local std::vector<uint16_t> own;
      own.resize(std::max<size_t>(own.size(), rows * k));
      for (int64_t r = 0; r < rows; r++) round_to_bf16(row(r), own.data() + r * k, k);
      return own.data();
    }
    auto* shared = static_cast<uint16_t*>(params->wdata);
    for (int64_t r = params->ith; r < rows; r += params->nth) round_to_bf16(row(r), shared + r * k, k);
    ggml_barrier(params->threadpool);
    return shared;
  }
};

ggml_backend_buffer_type_t buffer_type();

class Extra : public ggml::cpu::extra_buffer_type {
 public:
  bool supports_op(ggml_backend_dev_t, const ggml_tensor* op) override {
    return is_ours(op) && is_packable(op->src[0]) && op->src[1]->type == GGML_TYPE_F32 &&
           (op->src[1]->buffer == nullptr || ggml_backend_buft_is_host(op->src[1]->buffer->buft));
  }
  ggml::cpu::tensor_traits* get_tensor_traits(const ggml_tensor* op) override {
    return is_ours(op) ? static_cast<ggml::cpu::tensor_traits*>(op->src[0]->extra) : nullptr;
  }

 private:
  static bool is_ours(const ggml_tensor* op) {
    return op->op == GGML_OP_MUL_MAT && op->src[0]->buffer != nullptr && op->src[0]->buffer->buft == buffer_type();
  }
};

ggml_status init_tensor(ggml_backend_buffer_t, ggml_tensor* tensor) {
  static Traits traits;
  tensor->extra = is_packable(tensor) ? &traits : nullptr;
  return GGML_STATUS_SUCCESS;
}

void set_tensor(ggml_backend_buffer_t, ggml_tensor* tensor, const void* data, size_t offset, size_t size) {
  GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor) && tensor->extra != nullptr);
  auto* packed = static_cast<uint32_t*>(tensor->data);
  const int64_t pairs = tensor->ne[0] / 2;
  for (int64_t panel = 0; panel < tensor->ne[1] / kPanelRows; panel++) {
    pack_panel(static_cast<const char*>(data) + panel * kPanelRows * tensor->nb[1], tensor->nb[1], 2, pairs,
               packed + panel * pairs * kPanelRows);
  }
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
          /* .get_name       = */ [](ggml_backend_buffer_type_t) { return "CPU_BF16_PANELS"; },
          /* .alloc_buffer   = */ alloc_buffer,
          /* .get_alignment  = */ [](ggml_backend_buffer_type_t) -> size_t { return 64; },
          /* .get_max_size   = */ nullptr,
          /* .get_alloc_size = */ nullptr,
          /* .is_host        = */ nullptr,
      },
      /* .device  = */ ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0),
      /* .context = */ &extra,
  };
  return &type;
}

}  // namespace

void register_bf16_buffer() {
  if (!has_bf16_product()) return;
  ggml_backend_cpu_get_extra_buffer_types().push_back(buffer_type());
}

}  // namespace cllm
