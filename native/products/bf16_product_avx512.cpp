// BF16 matrix products with AVX512-BF16, and the choice between them and AMX; see bf16_product.h.
#include "products/bf16_product.h"
#include "products/bf16_product_amx.h"
#include "products/column_tiles.h"
#include "products/cpu.h"
#include "products/product_set.h"
#include "products/transpose_16x16.h"

#if defined(__AVX512BF16__) && defined(CLLM_TRANSPOSE_16X16)
#define CLLM_PRODUCT 1
#endif

namespace cllm {

#ifdef CLLM_PRODUCT

namespace {

constexpr int kColumns = 12;  // columns of b in a tile, with 12 x 2 accumulators
using Pair = uint32_t;        // two neighbouring BF16 along k

// Transposes 16 x 16 pairs of `a`: lane l of target[p] is pair p of row l.
void transpose_tile(const char* a, size_t stride, int64_t pairs, Pair* target, int64_t panel) {
  const __mmask16 mask = pairs >= 16 ? 0xffff : static_cast<__mmask16>((1u << pairs) - 1);
  __m512i lines[16];
  for (int i = 0; i < 16; i++) lines[i] = _mm512_maskz_loadu_epi32(mask, a + i * stride);
  transpose_16x16(lines);
  for (int64_t p = 0; p < 16 && p < pairs; p++) _mm512_storeu_si512(target + p * panel, lines[p]);
}

// Multiplies one panel of a by `Columns` columns of b; the sums overwrite c or, with `add`, are added to it.
template <int Registers, int Columns>
void tile(const Pair* a, const char* b, size_t b_stride, int64_t pairs, float* c, size_t c_stride, bool add) {
  __m512 sum[Columns][Registers];
  for (int j = 0; j < Columns; j++) {
    for (int i = 0; i < Registers; i++) {
      sum[j][i] = add ? _mm512_loadu_ps(c + j * c_stride + i * kPanelLanes) : _mm512_setzero_ps();
    }
  }
  for (int64_t p = 0; p < pairs; p++) {
    __m512bh weights[Registers];
    for (int i = 0; i < Registers; i++) {
      weights[i] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(a + (p * Registers + i) * kPanelLanes));
    }
#pragma GCC unroll 12
    for (int j = 0; j < Columns; j++) {
      const Pair pair = reinterpret_cast<const Pair*>(b + j * b_stride)[p];
      const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(pair)));
#pragma GCC unroll 2
      for (int i = 0; i < Registers; i++) sum[j][i] = _mm512_dpbf16_ps(sum[j][i], weights[i], x);
    }
  }
  for (int j = 0; j < Columns; j++) {
    for (int i = 0; i < Registers; i++) _mm512_storeu_ps(c + j * c_stride + i * kPanelLanes, sum[j][i]);
  }
}

template <int Registers>
void all_columns(const Pair* packed, int64_t pairs, const char* b, size_t b_stride, int64_t columns, float* c,
                 size_t c_stride, bool add) {
  in_column_tiles<kColumns>(columns, [&]<int Columns>(int64_t j) {
    tile<Registers, Columns>(packed, b + j * b_stride, b_stride, pairs, c + j * c_stride, c_stride, add);
  });
}

// Multiplies two panels of 2 registers by one column. The two sums of a single panel would not hide the latency of the
// additions.
void two_panels(const Pair* packed, int64_t pairs, const void* b, float* c) {
  const Pair* other = packed + pairs * 2 * kPanelLanes;
  __m512 sum[4] = {};
  for (int64_t p = 0; p < pairs; p++) {
    const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(static_cast<const Pair*>(b)[p])));
    for (int i = 0; i < 4; i++) {
      const Pair* from = (i < 2 ? packed : other) + (p * 2 + i % 2) * kPanelLanes;
      sum[i] = _mm512_dpbf16_ps(sum[i], reinterpret_cast<__m512bh>(_mm512_loadu_si512(from)), x);
    }
  }
  for (int i = 0; i < 4; i++) _mm512_storeu_ps(c + i * kPanelLanes, sum[i]);
}

}  // namespace

bool has_bf16_product() {
  // CLLM_PRODUCTS limits these products too.
  static const bool found =
      has_avx512_bf16() && product_set() != nullptr && product_set()->runs_here == has_avx512_vnni;
  return found;
}

void pack_panel(const void* rows, size_t stride, int registers, int64_t pairs, uint32_t* packed) {
  const int64_t panel = registers * kPanelLanes;
  for (int64_t row = 0; row < panel; row += kPanelLanes) {
    for (int64_t p = 0; p < pairs; p += 16) {
      transpose_tile(static_cast<const char*>(rows) + row * stride + p * sizeof(Pair), stride, pairs - p,
                     packed + p * panel + row, panel);
    }
  }
}

void panel_product(const uint32_t* packed, int registers, int64_t panels, int64_t pairs, const void* b, size_t b_stride,
                   int64_t columns, float* c, size_t c_stride, bool add) {
  if (has_amx()) return amx_panel_product(packed, registers, panels, pairs, b, b_stride, columns, c, c_stride, add);
  const auto run = registers == 2 ? all_columns<2> : all_columns<1>;
  const int64_t size = pairs * registers * kPanelLanes;
  for (int64_t panel = 0; panel < panels; panel++) {
    float* out = c + panel * registers * kPanelLanes;
    if (columns == 1 && registers == 2 && !add && panel + 1 < panels) {
      two_panels(packed + panel * size, pairs, b, out);
      panel++;
    } else {
      run(packed + panel * size, pairs, static_cast<const char*>(b), b_stride, columns, out, c_stride, add);
    }
  }
}

void round_to_bf16(const float* from, uint16_t* to, int64_t count) {
  int64_t i = 0;
  for (; i + kPanelLanes <= count; i += kPanelLanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i))));
  }
  if (i == count) return;
  const auto mask = static_cast<__mmask16>((1u << (count - i)) - 1);
  const __m256i last = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from + i)));
  _mm256_mask_storeu_epi16(to + i, mask, last);
}

#else

bool has_bf16_product() { return false; }
void pack_panel(const void*, size_t, int, int64_t, uint32_t*) {}
void panel_product(const uint32_t*, int, int64_t, int64_t, const void*, size_t, int64_t, float*, size_t, bool) {}
void round_to_bf16(const float*, uint16_t*, int64_t) {}

#endif

}  // namespace cllm
