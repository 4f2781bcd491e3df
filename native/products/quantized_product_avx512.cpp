// Products with quantised weights with AVX512-VNNI; see quantized_product.h.
#include <cmath>
#include <cstring>

#include "products/column_tiles.h"
#include "products/quantized_layout.h"
#include "products/quantized_product.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define CLLM_QUANTIZED 1
#include <immintrin.h>
#endif

namespace cllm {

namespace {

// Byte offsets within a rounded column. The column begins with the quants of all blocks; `factors` are their scales;
// `corrections` hold each block's sum, or half block's, multiplied as the format's offset or min requires.
struct RoundedLayout {
  RoundedLayout(BlockFormat format, int64_t blocks)
      : factors(blocks * kBlockWeights),
        corrections(factors + blocks * 4),
        bytes(corrections + blocks * (format == BlockFormat::kQ6_K ? 8 : 4)) {}
  int64_t factors, corrections, bytes;
};

}  // namespace

size_t rounded_bytes(BlockFormat format, int64_t blocks) {
  return static_cast<size_t>(RoundedLayout(format, blocks).bytes);
}

#ifdef CLLM_QUANTIZED

namespace {

constexpr int kColumns = 12;               // columns of a tile, two registers each
constexpr float kSmallestScaled = 1e-30f;  // a block whose values are all smaller is rounded to zero
constexpr int64_t kPrefetchBytes = 4096;   // distance of the prefetched weights

// The offset that is subtracted from quants stored without a sign.
constexpr int offset(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ4_0: return 8;
    case BlockFormat::kQ8_0: return 128;
    case BlockFormat::kQ6_K: return 32;
    default: return 0;
  }
}

bool is_finite(__m512 x) { return _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(INFINITY), _CMP_NLT_UQ) == 0; }

/// Pointers to the parts of one panel of 16 rows.
struct Panel {
  Panel(const void* packed, const BlockLayout& layout, int64_t row, int64_t blocks) {
    const auto* base = static_cast<const uint8_t*>(packed);
    const int64_t groups = row * (blocks / layout.per_scale) * BlockLayout::kHalfBytes;
    quants = base + row * blocks * layout.words * 4;
    high = base + layout.high + row * blocks * 8;
    fine = base + layout.fine + row * blocks * 2;
    scales = base + layout.scales + groups;
    mins = base + layout.mins + groups;
  }
  const uint8_t *quants, *high, *fine, *scales, *mins;
};

__m512 load_halves(const uint8_t* from, int64_t group) {
  return _mm512_cvtph_ps(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + group * kBlockRows * BlockLayout::kHalfBytes)));
}

__m128i load_bytes(const uint8_t* from, int64_t place) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + place * kBlockRows));
}

/// Prefetches weights by hand, because the processor's own prefetching stops at each page of 4 KB.
template <BlockFormat Format>
void prefetch(const Panel& panel, int64_t block) {
  constexpr int kLines = Format == BlockFormat::kQ8_0 ? 8 : 4;
  const uint8_t* ahead = panel.quants + block * kLines * 64 + kPrefetchBytes;
  for (int i = 0; i < kLines; i++) __builtin_prefetch(ahead + i * 64);
}

/// The weights 16 * half + 4 * i to 16 * half + 4 * i + 3 of each of 16 rows, before the format's offset is subtracted.
template <BlockFormat Format>
__m512i load_weights(const Panel& panel, int64_t block, int half, int i) {
  if constexpr (Format == BlockFormat::kQ8_0) return _mm512_loadu_si512(panel.quants + (block * 8 + half * 4 + i) * 64);
  const __m512i both = _mm512_loadu_si512(panel.quants + (block * 4 + i) * 64);
  const __m512i low = _mm512_and_si512(half == 0 ? both : _mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
  if constexpr (Format != BlockFormat::kQ6_K) return low;
  const __m512i high = _mm512_loadu_si512(panel.high + (block * 2 + half) * 64);
  const __m512i bits = i == 0   ? _mm512_slli_epi16(high, 4)
                       : i == 1 ? _mm512_slli_epi16(high, 2)
                       : i == 2 ? high
                                : _mm512_srli_epi16(high, 2);
  return _mm512_or_si512(low, _mm512_and_si512(bits, _mm512_set1_epi8(0x30)));
}

/// Scales of a block of 16 rows. In kQ6_K `scale` belongs to the block's first half and `second_scale` to its second
/// half; in the other formats `scale` belongs to all weights. `min` is added to every weight.
template <BlockFormat Format>
struct Scales {
  __m512 scale, second_scale, min;

  Scales(const Panel& panel, int64_t block) {
    if constexpr (!BlockLayout::is_k(Format)) {
      scale = load_halves(panel.scales, block);
      if constexpr (BlockLayout::has_mins(Format)) min = load_halves(panel.mins, block);
    } else {
      const int64_t group = block / kBlocksOfSuperblock;
      const __m512 d = load_halves(panel.scales, group);
      const __m128i first = load_bytes(panel.fine, block * 2), other = load_bytes(panel.fine, block * 2 + 1);
      if constexpr (Format == BlockFormat::kQ4_K) {
        scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(first)));
        min = _mm512_mul_ps(load_halves(panel.mins, group),
                            _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_setzero_si512(), _mm512_cvtepu8_epi32(other))));
      } else {
        scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(first)));
        second_scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(other)));
      }
    }
  }
};

// Multiplies 16 rows by `Columns` columns. Each register of weights is used for all columns in turn: the additions of
// one column depend on each other, so a run of them would fill the scheduler with instructions that cannot start yet.
template <BlockFormat Format, int Columns>
void tile(const Panel& panel, int64_t blocks, const char* rounded, float* c, int64_t c_stride) {
  const RoundedLayout layout(Format, blocks);
  constexpr bool two_scales = Format == BlockFormat::kQ6_K;
  __m512 sum[Columns];
  for (auto& s : sum) s = _mm512_setzero_ps();
  for (int64_t block = 0; block < blocks; block++) {
    const Scales<Format> scales(panel, block);
    prefetch<Format>(panel, block);
    const auto at = [&](int j, int64_t part) { return rounded + j * layout.bytes + part; };
    const auto correction = [&](int j, int64_t i) {
      if (offset(Format) == 0) return _mm512_setzero_si512();
      return _mm512_set1_epi32(reinterpret_cast<const int32_t*>(at(j, layout.corrections))[i]);
    };
    __m512i total[Columns];
    __m512 first[Columns];
#pragma GCC unroll 16
    for (int j = 0; j < Columns; j++) total[j] = correction(j, two_scales ? 2 * block : block);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      if (two_scales && half == 1) {
#pragma GCC unroll 16
        for (int j = 0; j < Columns; j++) {
          first[j] = _mm512_mul_ps(_mm512_cvtepi32_ps(total[j]), scales.scale);
          total[j] = correction(j, 2 * block + 1);
        }
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++) {
        const __m512i weights = load_weights<Format>(panel, block, half, i);
#pragma GCC unroll 16
        for (int j = 0; j < Columns; j++) {
          const auto* words = reinterpret_cast<const int32_t*>(at(j, block * kBlockWeights));
          total[j] = _mm512_dpbusd_epi32(total[j], weights, _mm512_set1_epi32(words[half * 4 + i]));
        }
      }
    }
#pragma GCC unroll 16
    for (int j = 0; j < Columns; j++) {
      const __m512 factor = _mm512_set1_ps(reinterpret_cast<const float*>(at(j, layout.factors))[block]);
      const __m512 dot = _mm512_cvtepi32_ps(total[j]);
      if constexpr (two_scales) {
        sum[j] = _mm512_fmadd_ps(_mm512_fmadd_ps(dot, scales.second_scale, first[j]), factor, sum[j]);
      } else {
        sum[j] = _mm512_fmadd_ps(dot, _mm512_mul_ps(scales.scale, factor), sum[j]);
      }
      if constexpr (BlockLayout::has_mins(Format)) {
        const float column_sum = reinterpret_cast<const float*>(at(j, layout.corrections))[block];
        sum[j] = _mm512_fmadd_ps(scales.min, _mm512_set1_ps(column_sum), sum[j]);
      }
    }
  }
  for (int j = 0; j < Columns; j++) _mm512_storeu_ps(c + j * c_stride, sum[j]);
}

template <BlockFormat Format>
void multiply_rows(const void* packed, int64_t rows, int64_t blocks, int64_t first, int64_t end, const char* rounded,
                   int64_t columns, float* c, int64_t c_stride) {
  const BlockLayout layout(Format, rows, blocks);
  const int64_t bytes = RoundedLayout(Format, blocks).bytes;
  for (int64_t row = first; row < end; row += kBlockRows) {
    const Panel panel(packed, layout, row, blocks);
    in_column_tiles<kColumns>(columns, [&]<int Columns>(int64_t j) {
      tile<Format, Columns>(panel, blocks, rounded + j * bytes, c + j * c_stride + row, c_stride);
    });
  }
}

float to_half(float x) { return _cvtsh_ss(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)); }

}  // namespace

bool has_quantized_product() { return true; }

void round_to_blocks(BlockFormat format, const float* x, int64_t blocks, void* rounded) {
  const RoundedLayout layout(format, blocks);
  auto* quants = static_cast<int8_t*>(rounded);
  auto* factors = reinterpret_cast<float*>(quants + layout.factors);
  auto* corrections = reinterpret_cast<char*>(quants + layout.corrections);
  const bool k_format = BlockLayout::is_k(format);
  for (int64_t block = 0; block < blocks; block++) {
    const __m512 low = _mm512_loadu_ps(x + block * kBlockWeights),
                 high = _mm512_loadu_ps(x + block * kBlockWeights + 16);
    const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    // A value that is not finite makes the whole sum NaN. Values too small for a scale become zero.
    const bool finite = is_finite(low) && is_finite(high);
    const bool counts = finite && largest > kSmallestScaled;
    const float factor = finite ? largest / 127 : NAN;
    const __m512 inverse = _mm512_set1_ps(127 / largest);
    const __m512i first = counts ? _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse)) : _mm512_setzero_si512(),
                  second = counts ? _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse)) : _mm512_setzero_si512();
    auto* place = reinterpret_cast<__m128i*>(quants + block * kBlockWeights);
    _mm_storeu_si128(place, _mm512_cvtsepi32_epi8(first));
    _mm_storeu_si128(place + 1, _mm512_cvtsepi32_epi8(second));
    factors[block] = k_format ? factor : to_half(factor);
    const auto set = [&](int64_t i, auto value) { std::memcpy(corrections + i * 4, &value, 4); };
    if (format == BlockFormat::kQ6_K) {
      set(2 * block, -offset(format) * _mm512_reduce_add_epi32(first));
      set(2 * block + 1, -offset(format) * _mm512_reduce_add_epi32(second));
      continue;
    }
    const int32_t total = _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
    if (BlockLayout::has_mins(format)) {
      const float sum = factor * static_cast<float>(total);
      set(block, k_format ? sum : to_half(sum));
    } else {
      set(block, -offset(format) * total);
    }
  }
}

void quantized_product(BlockFormat format, const void* packed, int64_t rows, int64_t blocks, int64_t first, int64_t end,
                       const void* rounded, int64_t columns, float* c, int64_t c_stride) {
  const auto run = [&](auto product) {
    product(packed, rows, blocks, first, end, static_cast<const char*>(rounded), columns, c, c_stride);
  };
  switch (format) {
    case BlockFormat::kQ4_0: return run(multiply_rows<BlockFormat::kQ4_0>);
    case BlockFormat::kQ4_1: return run(multiply_rows<BlockFormat::kQ4_1>);
    case BlockFormat::kQ8_0: return run(multiply_rows<BlockFormat::kQ8_0>);
    case BlockFormat::kQ4_K: return run(multiply_rows<BlockFormat::kQ4_K>);
    case BlockFormat::kQ6_K: return run(multiply_rows<BlockFormat::kQ6_K>);
  }
}

#else

bool has_quantized_product() { return false; }
void round_to_blocks(BlockFormat, const float*, int64_t, void*) {}
void quantized_product(BlockFormat, const void*, int64_t, int64_t, int64_t, int64_t, const void*, int64_t, float*,
                       int64_t) {}

#endif

}  // namespace cllm
