#include "llama/packed_attention.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "products/product_set.h"
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-function"  // functions of ggml-impl.h
#endif
#include "ggml-backend-impl.h"
#include "ggml-cpu/ggml-cpu-impl.h"
#include "ggml-cpu/traits.h"

namespace cllm {

namespace {

constexpr int64_t kUnitsPerThread = 2;

class AttentionTraits : public ggml::cpu::tensor_traits {
 public:
  static bool takes(const ggml_tensor* op) {
    const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3], *sinks = op->src[4];
    float settings[3];  // scale, ALiBi bias, cap of the scores
    std::memcpy(settings, op->op_params, sizeof(settings));
    return product_set() != nullptr && q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 &&
           v->type == GGML_TYPE_F16 && sinks == nullptr && settings[1] == 0 && settings[2] == 0 &&
           k->ne[0] == v->ne[0] && k->ne[0] % kAttentionLanes == 0 && k->ne[1] % kAttentionLanes == 0 &&
           q->nb[0] == sizeof(float) && k->nb[0] == sizeof(uint16_t) && v->nb[0] == sizeof(uint16_t) &&
           (mask == nullptr || (mask->type == GGML_TYPE_F16 && mask->nb[0] == sizeof(uint16_t)));
  }
  bool work_size(int, const ggml_tensor*, size_t& size) override {
    size = 0;
    return true;
  }
  bool compute_forward(ggml_compute_params* params, ggml_tensor* op) override {
    const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3];
    const int64_t rows = q->ne[1], heads = q->ne[2];
    // Rows are computed in groups, which are smaller where threads would be idle. A row's result does not depend on its
    // group.
    int64_t group_rows = kAttentionRows;
    while (group_rows > 1 && (rows + group_rows - 1) / group_rows * heads * q->ne[3] < kUnitsPerThread * params->nth) {
      group_rows /= 2;
    }
    const int64_t groups = (rows + group_rows - 1) / group_rows, units = groups * heads * q->ne[3];
    thread_local std::vector<float> scratch;
    scratch.resize(std::max<size_t>(scratch.size(), static_cast<size_t>(attention_scratch(k->ne[1], k->ne[0]))));
    AttentionArgs args{.q_stride = q->nb[1], .k_stride = k->nb[1], .v_stride = v->nb[1]};
    args.out_stride = op->nb[2];
    args.cells = k->ne[1];
    args.size = k->ne[0];
    std::memcpy(&args.scale, op->op_params, sizeof(args.scale));
    for (int64_t unit = units * params->ith / params->nth; unit < units * (params->ith + 1) / params->nth; unit++) {
      const int64_t row = unit % groups * group_rows, head = unit / groups % heads, stream = unit / groups / heads;
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
      args.rows = std::min(group_rows, rows - row);
      product_set()->attend(args, scratch.data());
    }
    return true;
  }
};

}  // namespace

ggml::cpu::tensor_traits* packed_attention(const ggml_tensor* op) {
  static AttentionTraits attention;
  return AttentionTraits::takes(op) ? &attention : nullptr;
}

}  // namespace cllm
