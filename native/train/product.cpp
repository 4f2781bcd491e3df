#include "train/product.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#if defined(__AVX512BF16__) && defined(__AVX512F__)
#include <immintrin.h>
#define CLLM_PRODUCT 1
#endif

namespace cllm {

#ifdef CLLM_PRODUCT

namespace {

constexpr int kColumns = 12;          // of b at a time: 12 x 2 accumulators
constexpr int64_t kDepth = 512;       // of k at a time: 32 rows of a are 32 KB then
constexpr int64_t kLanes = 16;        // outputs in a register
using Pair = uint32_t;                // two neighbouring BF16 along k

// 16 x 16 pairs: rows of `a` become columns. Lane l of target[p] is pair p of row l.
void transpose_tile(const char* a, size_t stride, int64_t pairs, Pair* target, int64_t panel) {
  const __mmask16 mask = pairs >= 16 ? 0xffff : static_cast<__mmask16>((1u << pairs) - 1);
  __m512i r[16], t[16];
  for (int i = 0; i < 16; i++) r[i] = _mm512_maskz_loadu_epi32(mask, a + i * stride);
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 16; i += 8) {
    for (int j = 0; j < 4; j++) {
      t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
      t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
    }
  }
  for (int j = 0; j < 8; j++) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
    r[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
  }
  for (int64_t p = 0; p < std::min<int64_t>(pairs, 16); p++) _mm512_storeu_si512(target + p * panel, r[p]);
}

// Rows of `a`, `panel` of them (16 or 32), packed pair by pair.
void pack(const char* a, size_t stride, int64_t panel, int64_t pairs, Pair* target) {
  for (int64_t row = 0; row < panel; row += kLanes) {
    for (int64_t p = 0; p < pairs; p += 16) {
      transpose_tile(a + row * stride + p * sizeof(Pair), stride, pairs - p, target + p * panel + row, panel);
    }
  }
}

// `Columns` columns of b with one panel of a, into c; added to it where it is not the first part of k.
template <int Registers, int Columns>
void tile(const Pair* a, const char* b, size_t b_stride, int64_t pairs, float* c, size_t c_stride, bool first) {
  __m512 sum[Columns][Registers];
  for (int j = 0; j < Columns; j++) {
    for (int i = 0; i < Registers; i++) {
      sum[j][i] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(c + j * c_stride + i * kLanes);
    }
  }
  for (int64_t p = 0; p < pairs; p++) {
    __m512bh left[Registers];
    for (int i = 0; i < Registers; i++) {
      left[i] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(a + (p * Registers + i) * kLanes));
    }
#pragma GCC unroll 12
    for (int j = 0; j < Columns; j++) {
      const Pair pair = reinterpret_cast<const Pair*>(b + j * b_stride)[p];
      const auto right = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(pair)));
#pragma GCC unroll 2
      for (int i = 0; i < Registers; i++) sum[j][i] = _mm512_dpbf16_ps(sum[j][i], left[i], right);
    }
  }
  for (int j = 0; j < Columns; j++) {
    for (int i = 0; i < Registers; i++) _mm512_storeu_ps(c + j * c_stride + i * kLanes, sum[j][i]);
  }
}

template <int Registers, int Columns>
void rest(int64_t columns, const Pair* a, const char* b, size_t b_stride, int64_t pairs, float* c, size_t c_stride,
          bool first) {
  if constexpr (Columns > 0) {
    if (columns == Columns) return tile<Registers, Columns>(a, b, b_stride, pairs, c, c_stride, first);
    rest<Registers, Columns - 1>(columns, a, b, b_stride, pairs, c, c_stride, first);
  }
}

template <int Registers>
void panel_product(const char* a, size_t a_stride, const ggml_tensor* bt, const char* b, float* c, size_t c_stride,
                   std::vector<Pair>& packed) {
  const int64_t pairs = bt->ne[0] / 2, columns = bt->ne[1];
  for (int64_t p = 0; p < pairs; p += kDepth / 2) {
    const int64_t part = std::min(pairs - p, kDepth / 2);
    pack(a + p * sizeof(Pair), a_stride, Registers * kLanes, part, packed.data());
    for (int64_t j = 0; j < columns; j += kColumns) {
      const char* from = b + j * bt->nb[1] + p * sizeof(Pair);
      rest<Registers, kColumns>(std::min<int64_t>(columns - j, kColumns), packed.data(), from, bt->nb[1], part,
                                c + j * c_stride, c_stride, p == 0);
    }
  }
}

void run_product(ggml_tensor* dst, int ith, int nth, void*) {
  const ggml_tensor *a = dst->src[0], *b = dst->src[1];
  const int64_t panels = (a->ne[1] + 2 * kLanes - 1) / (2 * kLanes);
  const int64_t units = panels * b->ne[2] * b->ne[3];
  thread_local std::vector<Pair> packed;
  packed.resize(kDepth / 2 * 2 * kLanes);
  for (int64_t unit = units * ith / nth; unit < units * (ith + 1) / nth; unit++) {
    const int64_t row = unit % panels * 2 * kLanes, i2 = unit / panels % b->ne[2], i3 = unit / panels / b->ne[2];
    const char* left = static_cast<const char*>(a->data) + row * a->nb[1] + i2 / (b->ne[2] / a->ne[2]) * a->nb[2] +
                       i3 / (b->ne[3] / a->ne[3]) * a->nb[3];
    const char* right = static_cast<const char*>(b->data) + i2 * b->nb[2] + i3 * b->nb[3];
    float* out = reinterpret_cast<float*>(static_cast<char*>(dst->data) + i2 * dst->nb[2] + i3 * dst->nb[3]) + row;
    const size_t stride = dst->nb[1] / sizeof(float);
    if (a->ne[1] - row >= 2 * kLanes) {
      panel_product<2>(left, a->nb[1], b, right, out, stride, packed);
    } else {
      panel_product<1>(left, a->nb[1], b, right, out, stride, packed);
    }
  }
}

void run_to_bf16(ggml_tensor* dst, int ith, int nth, void*) {
  const ggml_tensor* x = dst->src[0];
  const int64_t columns = x->ne[0], rows = ggml_nrows(x);
  for (int64_t r = rows * ith / nth; r < rows * (ith + 1) / nth; r++) {
    const int64_t i1 = r % x->ne[1], i2 = r / x->ne[1] % x->ne[2], i3 = r / x->ne[1] / x->ne[2];
    const auto* from = reinterpret_cast<const float*>(static_cast<const char*>(x->data) + i1 * x->nb[1] +
                                                      i2 * x->nb[2] + i3 * x->nb[3]);
    auto* to = static_cast<uint16_t*>(dst->data) + r * columns;
    int64_t i = 0;
    for (; i + kLanes <= columns; i += kLanes) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                          reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i))));
    }
    for (; i < columns; i++) to[i] = ggml_fp32_to_bf16(from[i]).bits;
  }
}

}  // namespace

bool has_product() { return true; }

bool can_product(const ggml_tensor* a, const ggml_tensor* b) {
  return a->ne[0] % 2 == 0 && a->ne[1] % kLanes == 0 && a->nb[0] == 2 && b->nb[0] == 2;
}

ggml_tensor* product(ggml_context* ctx, ggml_tensor* a, ggml_tensor* b) {
  GGML_ASSERT(a->type == GGML_TYPE_BF16 && b->type == GGML_TYPE_BF16 && can_product(a, b));
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

#else

bool has_product() { return false; }
bool can_product(const ggml_tensor*, const ggml_tensor*) { return false; }
ggml_tensor* product(ggml_context*, ggml_tensor*, ggml_tensor*) { GGML_ABORT("no AVX512-BF16"); }
ggml_tensor* to_bf16(ggml_context*, ggml_tensor*) { GGML_ABORT("no AVX512-BF16"); }

#endif

}  // namespace cllm
