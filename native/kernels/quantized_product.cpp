#include "kernels/quantized_product.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define CLLM_QUANTIZED 1
#include <immintrin.h>
#endif

namespace cllm {

namespace {

constexpr int64_t kHalf = 2;  // bytes of an F16

// Where the parts of packed weights lie.
struct Layout {
  Layout(BlockFormat format, int64_t rows, int64_t blocks)
      : words(format == BlockFormat::kQ8_0 ? 8 : 4),
        has_mins(format == BlockFormat::kQ4_1),
        scales(rows * blocks * words * 4),
        mins(scales + rows * blocks * kHalf) {}
  int64_t words;  // of 4 bytes, quants of a block of one row
  bool has_mins;
  int64_t scales, mins;  // bytes before them
};

// A rounded column: the quants of all blocks, their scales, and what the format's offset or min makes of their sum.
struct Rounded {
  static size_t bytes(int64_t blocks) { return static_cast<size_t>(blocks) * (kBlockWeights + 2 * sizeof(float)); }
};

}  // namespace

size_t row_bytes(BlockFormat format, int64_t blocks) {
  const Layout layout(format, 1, blocks);
  return static_cast<size_t>(blocks * (layout.words * 4 + (layout.has_mins ? 2 : 1) * kHalf));
}

size_t rounded_bytes(int64_t blocks) { return Rounded::bytes(blocks); }

#ifdef CLLM_QUANTIZED

namespace {

constexpr int kColumns = 16;

// What is subtracted from quants that are stored without a sign.
constexpr int offset(BlockFormat format) {
  if (format == BlockFormat::kQ4_0) return 8;
  return format == BlockFormat::kQ8_0 ? 128 : 0;
}

constexpr float kLeast = 1e-30f;

bool is_finite(__m512 x) { return _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(INFINITY), _CMP_NLT_UQ) == 0; }

// `Columns` columns with 16 rows. A register holds four weights of each row.
template <BlockFormat Format, int Columns>
void tile(const uint8_t* quants, const uint8_t* scales, const uint8_t* mins, int64_t blocks, const char* rounded,
          float* c, int64_t c_stride) {
  constexpr bool kNibbles = Format != BlockFormat::kQ8_0;
  constexpr int kWords = kNibbles ? 4 : 8;
  const auto column_bytes = static_cast<int64_t>(Rounded::bytes(blocks));
  const int64_t factors = blocks * kBlockWeights, corrections = factors + blocks * static_cast<int64_t>(sizeof(float));
  __m512 sum[Columns];
  for (auto& s : sum) s = _mm512_setzero_ps();
  for (int64_t block = 0; block < blocks; block++) {
    __m512i weights[8];
    const uint8_t* at = quants + block * kWords * 64;
    if constexpr (kNibbles) {
      const __m512i low = _mm512_set1_epi8(15);
      for (int i = 0; i < 4; i++) {
        const __m512i both = _mm512_loadu_si512(at + i * 64);
        weights[i] = _mm512_and_si512(both, low);
        weights[4 + i] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      }
    } else {
      for (int i = 0; i < 8; i++) weights[i] = _mm512_loadu_si512(at + i * 64);
    }
    const auto halves = [&](const uint8_t* from) {
      return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + block * kBlockRows * kHalf)));
    };
    const __m512 scale = halves(scales);
    __m512 min;
    if constexpr (Format == BlockFormat::kQ4_1) min = halves(mins);
#pragma GCC unroll 16
    for (int j = 0; j < Columns; j++) {
      const char* column = rounded + j * column_bytes;
      const auto* words = reinterpret_cast<const int32_t*>(column + block * kBlockWeights);
      const float factor = reinterpret_cast<const float*>(column + factors)[block];
      __m512i total = _mm512_setzero_si512();
      if constexpr (offset(Format) != 0) {
        total = _mm512_set1_epi32(reinterpret_cast<const int32_t*>(column + corrections)[block]);
      }
#pragma GCC unroll 8
      for (int i = 0; i < 8; i++) total = _mm512_dpbusd_epi32(total, weights[i], _mm512_set1_epi32(words[i]));
      sum[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(scale, _mm512_set1_ps(factor)), sum[j]);
      if constexpr (Format == BlockFormat::kQ4_1) {
        sum[j] =
            _mm512_fmadd_ps(min, _mm512_set1_ps(reinterpret_cast<const float*>(column + corrections)[block]), sum[j]);
      }
    }
  }
  for (int j = 0; j < Columns; j++) _mm512_storeu_ps(c + j * c_stride, sum[j]);
}

template <BlockFormat Format, int Columns>
void some(int64_t columns, const uint8_t* quants, const uint8_t* scales, const uint8_t* mins, int64_t blocks,
          const char* rounded, float* c, int64_t c_stride) {
  if constexpr (Columns > 0) {
    if (columns == Columns) return tile<Format, Columns>(quants, scales, mins, blocks, rounded, c, c_stride);
    some<Format, Columns - 1>(columns, quants, scales, mins, blocks, rounded, c, c_stride);
  }
}

template <BlockFormat Format>
void all(const void* packed, int64_t rows, int64_t blocks, int64_t first, int64_t end, const char* rounded,
         int64_t columns, float* c, int64_t c_stride) {
  const Layout layout(Format, rows, blocks);
  const auto* base = static_cast<const uint8_t*>(packed);
  for (int64_t row = first; row < end; row += kBlockRows) {
    const uint8_t* quants = base + row * blocks * layout.words * 4;
    const uint8_t* scales = base + layout.scales + row * blocks * kHalf;
    const uint8_t* mins = base + layout.mins + row * blocks * kHalf;
    // In tiles of equal width: 20 columns are 10 and 10, not 16 and 4.
    const int64_t tiles = (columns + kColumns - 1) / kColumns;
    for (int64_t t = 0; t < tiles; t++) {
      const int64_t j = columns * t / tiles, next = columns * (t + 1) / tiles;
      some<Format, kColumns>(next - j, quants, scales, mins, blocks,
                             rounded + j * static_cast<int64_t>(Rounded::bytes(blocks)), c + j * c_stride + row,
                             c_stride);
    }
  }
}

}  // namespace

bool has_quantized_product() { return true; }

void pack_blocks(BlockFormat format, const void* from, int64_t rows, int64_t blocks, void* packed) {
  const Layout layout(format, rows, blocks);
  const auto bytes = static_cast<int64_t>(row_bytes(format, 1));
  auto* target = static_cast<uint8_t*>(packed);
  for (int64_t row = 0; row < rows; row++) {
    const int64_t panel = row / kBlockRows * blocks, lane = row % kBlockRows;
    for (int64_t block = 0; block < blocks; block++) {
      const uint8_t* source = static_cast<const uint8_t*>(from) + (row * blocks + block) * bytes;
      const int64_t place = ((panel + block) * kBlockRows + lane) * kHalf;
      std::memcpy(target + layout.scales + place, source, kHalf);
      source += kHalf;
      if (layout.has_mins) {
        std::memcpy(target + layout.mins + place, source, kHalf);
        source += kHalf;
      }
      for (int64_t word = 0; word < layout.words; word++) {
        uint8_t quants[4];
        std::memcpy(quants, source + word * 4, 4);
        if (format == BlockFormat::kQ8_0) {
          for (auto& q : quants) q ^= 0x80;  // + 128
        }
        std::memcpy(target + (((panel + block) * layout.words + word) * kBlockRows + lane) * 4, quants, 4);
      }
    }
  }
}

// Scales and sums are rounded to F16 as in ggml's Q8_0 and Q8_1, so that the whole differs from ggml's in the order of
// its sums alone.
void round_to_blocks(BlockFormat format, const float* x, int64_t blocks, void* rounded) {
  auto* quants = static_cast<int8_t*>(rounded);
  auto* factors = reinterpret_cast<float*>(quants + blocks * kBlockWeights);
  auto* corrections = reinterpret_cast<char*>(factors + blocks);
  for (int64_t block = 0; block < blocks; block++) {
    const __m512 low = _mm512_loadu_ps(x + block * kBlockWeights),
                 high = _mm512_loadu_ps(x + block * kBlockWeights + 16);
    const __m512 lengths = _mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high));
    const float largest = _mm512_reduce_max_ps(lengths);
    // What is not finite makes the whole sum a NaN; what is too small for a scale is nothing.
    const bool finite = is_finite(low) && is_finite(high);
    const bool counts = finite && largest > kLeast;
    const float exact = finite ? largest / 127 : NAN;
    const float factor = _cvtsh_ss(_cvtss_sh(exact, _MM_FROUND_TO_NEAREST_INT));
    const __m512 inverse = _mm512_set1_ps(127 / largest);
    const __m512i first = counts ? _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse)) : _mm512_setzero_si512(),
                  second = counts ? _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse)) : _mm512_setzero_si512();
    auto* place = reinterpret_cast<__m128i*>(quants + block * kBlockWeights);
    _mm_storeu_si128(place, _mm512_cvtsepi32_epi8(first));
    _mm_storeu_si128(place + 1, _mm512_cvtsepi32_epi8(second));
    const int32_t total = _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
    factors[block] = factor;
    if (format == BlockFormat::kQ4_1) {
      const float sum = _cvtsh_ss(_cvtss_sh(exact * static_cast<float>(total), _MM_FROUND_TO_NEAREST_INT));
      std::memcpy(corrections + block * sizeof(sum), &sum, sizeof(sum));
    } else {
      const int32_t correction = -offset(format) * total;
      std::memcpy(corrections + block * sizeof(correction), &correction, sizeof(correction));
    }
  }
}

void quantized_product(BlockFormat format, const void* packed, int64_t rows, int64_t blocks, int64_t first, int64_t end,
                       const void* rounded, int64_t columns, float* c, int64_t c_stride) {
  const auto run = format == BlockFormat::kQ4_0   ? all<BlockFormat::kQ4_0>
                   : format == BlockFormat::kQ4_1 ? all<BlockFormat::kQ4_1>
                                                  : all<BlockFormat::kQ8_0>;
  run(packed, rows, blocks, first, end, static_cast<const char*>(rounded), columns, c, c_stride);
}

#else

bool has_quantized_product() { return false; }
void pack_blocks(BlockFormat, const void*, int64_t, int64_t, void*) {}
void round_to_blocks(BlockFormat, const float*, int64_t, void*) {}
void quantized_product(BlockFormat, const void*, int64_t, int64_t, int64_t, int64_t, const void*, int64_t, float*,
                       int64_t) {}

#endif

}  // namespace cllm
