#pragma once

// Vectors of AVX2, 8 lanes of 32 bits, as the kernels of this folder (*_kernel.h) use them. A file includes one such
// header and then the kernels. All of it is in an unnamed namespace, because each file is compiled for another
// instruction set: a function that the linker could take from any of them would run on CPUs that lack its instructions.
#include <immintrin.h>

#include <cstdint>

#include "products/byte_columns.h"

namespace cllm {

namespace {

struct Vector {
  static constexpr int kLanes = 8;
  static constexpr int kRegisters = 16;
  using Floats = __m256;
  using Ints = __m256i;

  static Floats zero() { return _mm256_setzero_ps(); }
  static Floats set(float x) { return _mm256_set1_ps(x); }
  static Floats load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, Floats x) { _mm256_storeu_ps(to, x); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
  /// a * b + c, rounded once.
  static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats load_f16(const void* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(from)));
  }
  static Floats to_floats(Ints x) { return _mm256_cvtepi32_ps(x); }
  static float f16_rounded(float x) { return _cvtsh_ss(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)); }
  /// The lower and the upper BF16 of each lane.
  static Floats lower_bf16(Ints pair) { return _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16)); }
  static Floats upper_bf16(Ints pair) {
    return _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }

  static Ints load_ints(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static Ints set_words(int32_t word) { return _mm256_set1_epi32(word); }
  static Ints set_bytes(int8_t byte) { return _mm256_set1_epi8(byte); }
  static Ints both(Ints a, Ints b) { return _mm256_and_si256(a, b); }
  static Ints either(Ints a, Ints b) { return _mm256_or_si256(a, b); }
  /// Shifts by bits that a mask removes afterwards, so where a byte's bits go does not matter.
  template <int Bits>
  static Ints shift_left(Ints x) {
    return _mm256_slli_epi16(x, Bits);
  }
  template <int Bits>
  static Ints shift_right(Ints x) {
    return _mm256_srli_epi16(x, Bits);
  }
  static Floats bytes_to_floats(const uint8_t* from, bool with_sign) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    return to_floats(with_sign ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
  }

  /// Bit l says whether lane l is above zero, or is not equal to the value.
  static uint32_t above_zero(Floats x) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x, zero(), _CMP_GT_OQ)));
  }
  static uint32_t unequal(Floats x, float value) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x, set(value), _CMP_NEQ_UQ)));
  }
  /// `x`, and `value` where `mask` is equal to `value`.
  static Floats keep_equal(Floats x, Floats mask, float value) {
    return _mm256_blendv_ps(x, set(value), _mm256_cmp_ps(mask, set(value), _CMP_EQ_OQ));
  }

  /// Transposes 8 lines of 8 lanes.
  static void transpose(Floats (&x)[kLanes]) {
    __m256 t[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      x[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      x[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      x[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      x[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
      t[i] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x20);
      t[i + 4] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x31);
    }
    for (int i = 0; i < 8; i++) x[i] = t[i];
  }

  /// Rounds 32 values times `inverse` to the nearest integers, which become bytes; their sums go to `sums`, one for
  /// each half.
  static void to_bytes(const float* from, float inverse, int8_t* to, int32_t (&sums)[2]) {
    const auto ints = [&](int i) { return _mm256_cvtps_epi32(_mm256_mul_ps(load(from + i * 8), set(inverse))); };
    const __m256i a = ints(0), b = ints(1), c = ints(2), d = ints(3);
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    sums[0] = sum_of(_mm256_add_epi32(a, b));
    sums[1] = sum_of(_mm256_add_epi32(c, d));
  }
  /// The largest size of 32 values, or NaN where one of them is not finite.
  static float largest_of_32(const float* from) {
    const auto size = [&](int i) { return _mm256_andnot_ps(set(-0.0f), load(from + i * 8)); };
    const __m256 a = size(0), b = size(1), c = size(2), d = size(3);
    // x - x is zero for finite values only.
    const __m256 checks = _mm256_or_ps(_mm256_or_ps(_mm256_sub_ps(a, a), _mm256_sub_ps(b, b)),
                                       _mm256_or_ps(_mm256_sub_ps(c, c), _mm256_sub_ps(d, d)));
    if (_mm256_movemask_ps(_mm256_cmp_ps(checks, zero(), _CMP_NEQ_UQ)) != 0) return __builtin_nanf("");
    const __m256 all = max(max(a, b), max(c, d));
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
  }

 private:
  static int32_t sum_of(__m256i x) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
  }
};

#ifndef CLLM_VNNI

/// Tells the compiler nothing about `x`. Without it GCC reorders the additions and keeps the products in memory.
[[gnu::always_inline]] inline void keep_order(__m256i& x) { asm("" : "+x"(x)); }

/// The sum of products of `Words` words: each lane adds up 4 weights times 4 values of a column per word. Without VNNI,
/// products are added up in 16 bits for as many words as they fit: a weight of B bits times 127, two in a lane.
template <int Bits, int Words>
struct WordSum : ByteColumns<Vector> {
  static constexpr int kNarrow = Bits <= 4 ? 8 : Bits == 5 ? 4 : 2;
  using Weights = __m256i;
  static Weights prepare(__m256i weights) { return weights; }

  template <int I>
  void add(Weights weights, __m256i column) {
    const __m256i product = _mm256_maddubs_epi16(weights, column);
    narrow = I % kNarrow == 0 ? product : _mm256_add_epi16(narrow, product);
    keep_order(narrow);
    if constexpr (I % kNarrow == kNarrow - 1 || I == Words - 1) {
      const __m256i sum = _mm256_madd_epi16(narrow, _mm256_set1_epi16(1));
      wide = I < kNarrow ? sum : _mm256_add_epi32(wide, sum);
    }
  }
  __m256i total(int32_t correction) const { return _mm256_add_epi32(wide, _mm256_set1_epi32(correction)); }

  __m256i narrow, wide;
};

/// Products of bytes would not fit into 16 bits, so weights of 8 bits and their columns are widened before. A column's
/// block has two words for each word of weights: its values 0 and 2, and its values 1 and 3.
template <int Words>
struct WordSum<8, Words> {
  static constexpr bool kCorrectedFirst = false;
  static constexpr int64_t kColumnBytes = 64;
  struct Weights {
    __m256i even, odd;
  };
  struct Column {
    __m256i even, odd;
  };
  static Weights prepare(__m256i weights) {
    return {_mm256_and_si256(weights, _mm256_set1_epi16(255)), _mm256_srli_epi16(weights, 8)};
  }
  template <int I>
  static Column load(const char* block) {
    const auto* words = reinterpret_cast<const int32_t*>(block);
    return {_mm256_set1_epi32(words[2 * I]), _mm256_set1_epi32(words[2 * I + 1])};
  }
  static void store(const int8_t* bytes, int8_t* block) {
    auto* values = reinterpret_cast<int16_t*>(block);
    for (int i = 0; i < 32; i += 4) {
      const int16_t reordered[4] = {bytes[i], bytes[i + 2], bytes[i + 1], bytes[i + 3]};
      __builtin_memcpy(values + i, reordered, sizeof(reordered));
    }
  }

  template <int I>
  void add(const Weights& weights, const Column& column) {
    const __m256i even = _mm256_madd_epi16(weights.even, column.even);
    sum = I == 0 ? even : _mm256_add_epi32(sum, even);
    keep_order(sum);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(weights.odd, column.odd));
    keep_order(sum);
  }
  __m256i total(int32_t correction) const { return _mm256_add_epi32(sum, _mm256_set1_epi32(correction)); }

  __m256i sum;
};

#else

template <int Bits, int Words>
struct WordSum : ByteColumns<Vector> {
  using Weights = __m256i;
  static Weights prepare(__m256i weights) { return weights; }
  template <int I>
  void add(Weights weights, __m256i column) {
    const __m256i before = I == 0 ? _mm256_setzero_si256() : sum;
#ifdef __AVXVNNI__
    sum = _mm256_dpbusd_avx_epi32(before, weights, column);
#else
    sum = _mm256_dpbusd_epi32(before, weights, column);  // the same instruction in the encoding of AVX-512
#endif
  }
  __m256i total(int32_t correction) const { return _mm256_add_epi32(sum, _mm256_set1_epi32(correction)); }
  __m256i sum;
};

#endif

}  // namespace

}  // namespace cllm
