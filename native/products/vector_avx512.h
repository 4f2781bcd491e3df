#pragma once

// Vectors of AVX-512 with VNNI, 16 lanes of 32 bits; see vector_avx2.h.
#include <immintrin.h>

#include <cstdint>

#include "products/byte_columns.h"
#include "products/transpose_16x16.h"

namespace cllm {

namespace {

struct Vector {
  static constexpr int kLanes = 16;
  static constexpr int kRegisters = 32;
  using Floats = __m512;
  using Ints = __m512i;

  static Floats zero() { return _mm512_setzero_ps(); }
  static Floats set(float x) { return _mm512_set1_ps(x); }
  static Floats load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, Floats x) { _mm512_storeu_ps(to, x); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats load_f16(const void* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
  }
  static Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
  static float f16_rounded(float x) { return _cvtsh_ss(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)); }
  static Floats lower_bf16(Ints pair) { return _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)); }
  static Floats upper_bf16(Ints pair) {
    return _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }

  static Ints load_ints(const void* from) { return _mm512_loadu_si512(from); }
  static Ints set_words(int32_t word) { return _mm512_set1_epi32(word); }
  static Ints set_bytes(int8_t byte) { return _mm512_set1_epi8(byte); }
  static Ints both(Ints a, Ints b) { return _mm512_and_si512(a, b); }
  static Ints either(Ints a, Ints b) { return _mm512_or_si512(a, b); }
  template <int Bits>
  static Ints shift_left(Ints x) {
    return _mm512_slli_epi16(x, Bits);
  }
  template <int Bits>
  static Ints shift_right(Ints x) {
    return _mm512_srli_epi16(x, Bits);
  }
  static Floats bytes_to_floats(const uint8_t* from, bool with_sign) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return to_floats(with_sign ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes));
  }

  static uint32_t above_zero(Floats x) { return _mm512_cmp_ps_mask(x, zero(), _CMP_GT_OQ); }
  static uint32_t unequal(Floats x, float value) { return _mm512_cmp_ps_mask(x, set(value), _CMP_NEQ_UQ); }
  static Floats keep_equal(Floats x, Floats mask, float value) {
    return _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(mask, set(value), _CMP_EQ_OQ), set(value));
  }

  static void transpose(Floats (&x)[kLanes]) {
    __m512i lines[16];
    for (int i = 0; i < 16; i++) lines[i] = _mm512_castps_si512(x[i]);
    transpose_16x16(lines);
    for (int i = 0; i < 16; i++) x[i] = _mm512_castsi512_ps(lines[i]);
  }

  static void to_bytes(const float* from, float inverse, int8_t* to, int32_t (&sums)[2]) {
    for (int half = 0; half < 2; half++) {
      const __m512i ints = _mm512_cvtps_epi32(_mm512_mul_ps(load(from + half * 16), set(inverse)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to) + half, _mm512_cvtsepi32_epi8(ints));
      sums[half] = _mm512_reduce_add_epi32(ints);
    }
  }
  static float largest_of_32(const float* from) {
    const __m512 low = _mm512_abs_ps(load(from)), high = _mm512_abs_ps(load(from + 16));
    const auto is_finite = [](__m512 size) {
      return _mm512_cmp_ps_mask(size, set(__builtin_inff()), _CMP_NLT_UQ) == 0;
    };
    if (!is_finite(low) || !is_finite(high)) return __builtin_nanf("");
    return _mm512_reduce_max_ps(_mm512_max_ps(low, high));
  }
};

template <int Bits, int Words>
struct WordSum : ByteColumns<Vector> {
  static constexpr bool kCorrectedFirst = true;
  using Weights = __m512i;
  static Weights prepare(__m512i weights) { return weights; }
  void start(int32_t correction) { sum = _mm512_set1_epi32(correction); }
  template <int I>
  void add(Weights weights, __m512i column) {
    sum = _mm512_dpbusd_epi32(sum, weights, column);
  }
  __m512i total(int32_t) const { return sum; }
  __m512i sum;
};

}  // namespace

}  // namespace cllm
