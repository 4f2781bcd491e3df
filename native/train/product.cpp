#include "train/product.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "products/bf16_product.h"

namespace cllm {

namespace {

constexpr int64_t kDepth = 512;  // elements of k at a time, so that 32 rows of a take 32 KB
constexpr int64_t kPairBytes = 4;

void run_product(ggml_tensor* dst, int ith, int nth, void*) {
  const ggml_tensor *a = dst->src[0], *b = dst->src[1];
  const int64_t panels = (a->ne[1] + 2 * kPanelLanes - 1) / (2 * kPanelLanes);
  const int64_t units = panels * b->ne[2] * b->ne[3], pairs = a->ne[0] / 2;
  thread_local std::vector<uint32_t> packed;
  packed.resize(kDepth / 2 * 2 * kPanelLanes);
  for (int64_t unit = units * ith / nth; unit < units * (ith + 1) / nth; unit++) {
    const int64_t row = unit % panels * 2 * kPanelLanes, i2 = unit / panels % b->ne[2], i3 = unit / panels / b->ne[2];
    const char* a_rows = static_cast<const char*>(a->data) + row * a->nb[1] + i2 / (b->ne[2] / a->ne[2]) * a->nb[2] +
                         i3 / (b->ne[3] / a->ne[3]) * a->nb[3];
    const char* b_columns = static_cast<const char*>(b->data) + i2 * b->nb[2] + i3 * b->nb[3];
    float* out = reinterpret_cast<float*>(static_cast<char*>(dst->data) + i2 * dst->nb[2] + i3 * dst->nb[3]) + row;
    const int registers = a->ne[1] - row >= 2 * kPanelLanes ? 2 : 1;
    for (int64_t p = 0; p < pairs; p += kDepth / 2) {
      const int64_t part = std::min(pairs - p, kDepth / 2);
      pack_panel(a_rows + p * kPairBytes, a->nb[1], registers, part, packed.data());
      panel_product(packed.data(), registers, 1, part, b_columns + p * kPairBytes, b->nb[1], b->ne[1], out,
                    dst->nb[1] / sizeof(float), p > 0);
    }
  }
}

void run_to_bf16(ggml_tensor* dst, int ith, int nth, void*) {
  const ggml_tensor* x = dst->src[0];
  const int64_t columns = x->ne[0], rows = ggml_nrows(x);
  for (int64_t r = rows * ith / nth; r < rows * (ith + 1) / nth; r++) {
    const int64_t i1 = r % x->ne[1], i2 = r / x->ne[1] % x->ne[2], i3 = r / x->ne[1] / x->ne[2];
    const char* from = static_cast<const char*>(x->data) + i1 * x->nb[1] + i2 * x->nb[2] + i3 * x->nb[3];
    round_to_bf16(reinterpret_cast<const float*>(from), static_cast<uint16_t*>(dst->data) + r * columns, columns);
  }
}

}  // namespace

bool has_product() { return has_bf16_product(); }

bool product_takes(const ggml_tensor* a, const ggml_tensor* b) {
  return a->ne[0] % 2 == 0 && a->ne[1] % kPanelLanes == 0 && a->nb[0] == 2 && b->nb[0] == 2;
}

ggml_tensor* product(ggml_context* ctx, ggml_tensor* a, ggml_tensor* b) {
  GGML_ASSERT(a->type == GGML_TYPE_BF16 && b->type == GGML_TYPE_BF16 && product_takes(a, b));
  GGML_ASSERT(a->ne[0] == b->ne[0] && b->ne[2] % a->ne[2] == 0 && b->ne[3] % a->ne[3] == 0);
  ggml_tensor* operands[] = {a, b};
  return ggml_custom_4d(ctx, GGML_TYPE_F32, a->ne[1], b->ne[1], b->ne[2], b->ne[3], operands, 2, run_product,
                        GGML_N_TASKS_MAX, nullptr);
}

ggml_tensor* to_bf16(ggml_context* ctx, ggml_tensor* x) {
  GGML_ASSERT(x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float));
  return ggml_custom_4d(ctx, GGML_TYPE_BF16, x->ne[0], x->ne[1], x->ne[2], x->ne[3], &x, 1, run_to_bf16,
                        GGML_N_TASKS_MAX, nullptr);
}

}  // namespace cllm
