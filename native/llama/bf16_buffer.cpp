#include "llama/bf16_buffer.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "ggml-cpu.h"
#include "kernels/attention.h"
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
    panel_product(packed + begin * size, 2, end - begin, pairs, rounded, k * sizeof(uint16_t), columns,
                  out + begin * kPanelRows, weight->ne[1], false);
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

bool is_packed(const ggml_tensor* weight) { return weight->buffer != nullptr && weight->buffer->buft == buffer_type(); }

/// Attention of layers whose query weights are packed: ggml's own takes half of a block's time where the model is
/// small.
class AttentionTraits : public ggml::cpu::tensor_traits {
 public:
  static bool takes(const ggml_tensor* op) {
    const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3], *sinks = op->src[4];
    float settings[3];  // scale, bias of ALiBi, cap of the scores
    std::memcpy(settings, op->op_params, sizeof(settings));
    return has_attention() && q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 &&
           sinks == nullptr && settings[1] == 0 && settings[2] == 0 && k->ne[0] == v->ne[0] &&
           k->ne[0] % kPanelLanes == 0 && k->ne[1] % kPanelLanes == 0 && q->nb[0] == sizeof(float) &&
           k->nb[0] == sizeof(uint16_t) && v->nb[0] == sizeof(uint16_t) &&
           (mask == nullptr || (mask->type == GGML_TYPE_F16 && mask->nb[0] == sizeof(uint16_t))) &&
           comes_from_packed(q);
  }
  bool work_size(int, const ggml_tensor*, size_t& size) override {
    size = 0;
    return true;
  }
  bool compute_forward(ggml_compute_params* params, ggml_tensor* op) override {
    const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3];
    const int64_t rows = q->ne[1], heads = q->ne[2], groups = (rows + kAttentionRows - 1) / kAttentionRows;
    const int64_t units = groups * heads * q->ne[3];
    thread_local std::vector<float> scores;
    scores.resize(std::max<size_t>(scores.size(), kAttentionRows * k->ne[1]));
    AttentionArgs args{.q_stride = q->nb[1], .k_stride = k->nb[1], .v_stride = v->nb[1]};
    args.out_stride = op->nb[2];
    args.cells = k->ne[1];
    args.size = k->ne[0];
    std::memcpy(&args.scale, op->op_params, sizeof(args.scale));
    for (int64_t unit = units * params->ith / params->nth; unit < units * (params->ith + 1) / params->nth; unit++) {
      const int64_t row = unit % groups * kAttentionRows, head = unit / groups % heads, stream = unit / groups / heads;
      const auto at = [](const ggml_tensor* x, int64_t i1, int64_t i2, int64_t i3) {
        return static_cast<char*>(x->data) + i1 * x->nb[1] + i2 * x->nb[2] + i3 * x->nb[3];
      };
      const auto shared = [&](const ggml_tensor* x) {
        return at(x, 0, head / (heads / x->ne[2]), stream / (q->ne[3] / x->ne[3]));
      };
      args.q = at(q, row, head, stream);
      args.k = shared(k);
      args.v = shared(v);
      args.mask = mask == nullptr ? nullptr : at(mask, row, head % mask->ne[2], stream % mask->ne[3]);
      args.mask_stride = mask == nullptr ? 0 : mask->nb[1];
      args.out = at(op, head, row, stream);
      args.rows = std::min(kAttentionRows, rows - row);
      attend(args, scores.data());
    }
    return true;
  }

 private:
  // Back over rotation, norm, bias and views to the product with the query weights.
  static bool comes_from_packed(const ggml_tensor* x) {
    constexpr int kMostSteps = 12;
    for (int step = 0; step < kMostSteps && x != nullptr; step++, x = x->src[0]) {
      if (x->op == GGML_OP_MUL_MAT) return is_packed(x->src[0]);
    }
    return false;
  }
};

class Extra : public ggml::cpu::extra_buffer_type {
 public:
  bool supports_op(ggml_backend_dev_t, const ggml_tensor* op) override {
    return is_ours(op) && is_packable(op->src[0]) && op->src[1]->type == GGML_TYPE_F32 &&
           (op->src[1]->buffer == nullptr || ggml_backend_buft_is_host(op->src[1]->buffer->buft));
  }
  ggml::cpu::tensor_traits* get_tensor_traits(const ggml_tensor* op) override {
    static AttentionTraits attention;
    if (op->op == GGML_OP_FLASH_ATTN_EXT) return AttentionTraits::takes(op) ? &attention : nullptr;
    return is_ours(op) ? static_cast<ggml::cpu::tensor_traits*>(op->src[0]->extra) : nullptr;
  }

 private:
  static bool is_ours(const ggml_tensor* op) { return op->op == GGML_OP_MUL_MAT && is_packed(op->src[0]); }
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
