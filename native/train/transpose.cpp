#include "train/transpose.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "products/transpose_16x16.h"

namespace cllm {

namespace {

constexpr int64_t kTile = 16;  // 16 floats: one cache line

inline uint16_t to_bf16(uint32_t bits) { return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16); }

inline float convert(uint32_t bits, float) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline uint16_t convert(uint32_t bits, uint16_t) { return to_bf16(bits); }

#ifdef CLLM_TRANSPOSE_16X16
inline void store(__m512i line, float* target) { _mm512_storeu_si512(target, line); }
inline void store(__m512i line, uint16_t* target) {  // rounded as by to_bf16()
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(line, 16), _mm512_set1_epi32(1));
  line = _mm512_add_epi32(line, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), _mm512_cvtepi32_epi16(_mm512_srli_epi32(line, 16)));
}

template <typename T>
void whole_tile(const char* source, size_t stride, T* target, int64_t rows) {
  __m512i lines[kTile];
  for (int64_t r = 0; r < kTile; r++) lines[r] = _mm512_loadu_si512(source + r * stride);
  transpose_16x16(lines);
  for (int64_t c = 0; c < kTile; c++) store(lines[c], target + c * rows);
}
#endif

// One tile of `tile_rows` rows and `tile_columns` columns. Element (column, row) of it goes to target[column * rows +
// row].
template <typename T>
void tile(const char* source, size_t stride, T* target, int64_t rows, int64_t tile_columns, int64_t tile_rows) {
#ifdef CLLM_TRANSPOSE_16X16
  if (tile_columns == kTile && tile_rows == kTile) return whole_tile(source, stride, target, rows);
#endif
  T buffer[kTile][kTile];
  for (int64_t r = 0; r < tile_rows; r++) {
    uint32_t line[kTile];
    std::memcpy(line, source + r * stride, sizeof(uint32_t) * tile_columns);
    for (int64_t c = 0; c < tile_columns; c++) buffer[r][c] = convert(line[c], T{});
  }
  for (int64_t c = 0; c < tile_columns; c++) {
    for (int64_t r = 0; r < tile_rows; r++) target[c * rows + r] = buffer[r][c];
  }
}

template <typename T>
void transpose(ggml_tensor* dst, int ith, int nth) {
  const ggml_tensor* x = dst->src[0];
  const int64_t columns = x->ne[0], rows = x->ne[1];
  // A unit of work is a strip of kTile rows.
  const int64_t strips = (rows + kTile - 1) / kTile;
  const int64_t units = strips * x->ne[2] * x->ne[3];
  const int64_t begin = units * ith / nth, end = units * (ith + 1) / nth;
  for (int64_t unit = begin; unit < end; unit++) {
    const int64_t matrix = unit / strips, row = unit % strips * kTile;
    const int64_t i2 = matrix % x->ne[2], i3 = matrix / x->ne[2];
    const char* source = static_cast<const char*>(x->data) + row * x->nb[1] + i2 * x->nb[2] + i3 * x->nb[3];
    T* target = static_cast<T*>(dst->data) + matrix * rows * columns + row;
    const int64_t tile_rows = std::min(kTile, rows - row);
    for (int64_t column = 0; column < columns; column += kTile) {
      tile(source + column * sizeof(float), x->nb[1], target + column * rows, rows, std::min(kTile, columns - column),
           tile_rows);
    }
  }
}

}  // namespace

ggml_tensor* transpose_on_cpu(ggml_context* ctx, ggml_tensor* x, ggml_type type) {
  GGML_ASSERT(x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float));
  GGML_ASSERT(type == GGML_TYPE_F32 || type == GGML_TYPE_BF16);
  const auto run = [](ggml_tensor* dst, int ith, int nth, void*) {
    if (dst->type == GGML_TYPE_F32) {
      transpose<float>(dst, ith, nth);
    } else {
      transpose<uint16_t>(dst, ith, nth);
    }
  };
  return ggml_custom_4d(ctx, type, x->ne[1], x->ne[0], x->ne[2], x->ne[3], &x, 1, run, GGML_N_TASKS_MAX, nullptr);
}

}  // namespace cllm
