#pragma once

// Vectors of NEON with dot products, 4 lanes of 32 bits; see vector_avx2.h. With i8mm there is a product of bytes
// without and with a sign; without it weights of 8 bits get a sign, and all others are small enough to pass for signed.
#include <arm_neon.h>

#include <cstdint>

#include "products/byte_columns.h"

namespace cllm {

namespace {

struct Vector {
  static constexpr int kLanes = 4;
  static constexpr int kRegisters = 32;
  using Floats = float32x4_t;
  using Ints = uint8x16_t;

  static Floats zero() { return vdupq_n_f32(0); }
  static Floats set(float x) { return vdupq_n_f32(x); }
  static Floats load(const float* from) { return vld1q_f32(from); }
  static void store(float* to, Floats x) { vst1q_f32(to, x); }
  static Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
  static Floats multiply(Floats a, Floats b) { return vmulq_f32(a, b); }
  /// The larger one; b where either is NaN, as on x86-64.
  static Floats max(Floats a, Floats b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
  static Floats load_f16(const void* from) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(static_cast<const uint16_t*>(from))));
  }
  static Floats to_floats(int32x4_t x) { return vcvtq_f32_s32(x); }
  static float f16_rounded(float x) { return static_cast<float>(static_cast<__fp16>(x)); }
  static Floats lower_bf16(Ints pair) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u8(pair), 16)); }
  static Floats upper_bf16(Ints pair) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(pair), vdupq_n_u32(0xffff0000u)));
  }

  static Ints load_ints(const void* from) { return vld1q_u8(static_cast<const uint8_t*>(from)); }
  static Ints set_words(int32_t word) { return vreinterpretq_u8_s32(vdupq_n_s32(word)); }
  static Ints set_bytes(int8_t byte) { return vreinterpretq_u8_s8(vdupq_n_s8(byte)); }
  static Ints both(Ints a, Ints b) { return vandq_u8(a, b); }
  static Ints either(Ints a, Ints b) { return vorrq_u8(a, b); }
  template <int Bits>
  static Ints shift_left(Ints x) {
    return vshlq_n_u8(x, Bits);
  }
  template <int Bits>
  static Ints shift_right(Ints x) {
    return vshrq_n_u8(x, Bits);
  }
  static Floats bytes_to_floats(const uint8_t* from, bool with_sign) {
    float values[4];
    for (int i = 0; i < 4; i++) values[i] = with_sign ? static_cast<int8_t>(from[i]) : from[i];
    return load(values);
  }

  static uint32_t above_zero(Floats x) { return bits_of_lanes(vcgtq_f32(x, zero())); }
  static uint32_t unequal(Floats x, float value) { return bits_of_lanes(vmvnq_u32(vceqq_f32(x, set(value)))); }
  static Floats keep_equal(Floats x, Floats mask, float value) {
    return vbslq_f32(vceqq_f32(mask, set(value)), set(value), x);
  }

  static void transpose(Floats (&x)[kLanes]) {
    const float32x4x2_t a = vtrnq_f32(x[0], x[1]), b = vtrnq_f32(x[2], x[3]);
    x[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    x[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    x[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    x[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
  }

  static void to_bytes(const float* from, float inverse, int8_t* to, int32_t (&sums)[2]) {
    for (int half = 0; half < 2; half++) {
      int32x4_t ints[4], sum = vdupq_n_s32(0);
      for (int i = 0; i < 4; i++) {
        ints[i] = vcvtnq_s32_f32(multiply(load(from + half * 16 + i * 4), set(inverse)));
        sum = vaddq_s32(sum, ints[i]);
      }
      const int16x8_t low = vcombine_s16(vqmovn_s32(ints[0]), vqmovn_s32(ints[1])),
                      high = vcombine_s16(vqmovn_s32(ints[2]), vqmovn_s32(ints[3]));
      vst1q_s8(to + half * 16, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
      sums[half] = vaddvq_s32(sum);
    }
  }
  static float largest_of_32(const float* from) {
    Floats largest = zero();  // NaN if one value is NaN
    for (int i = 0; i < 8; i++) largest = vmaxq_f32(largest, vabsq_f32(load(from + i * 4)));
    const float all = vmaxvq_f32(largest);
    return all < __builtin_inff() ? all : __builtin_nanf("");
  }

 private:
  static uint32_t bits_of_lanes(uint32x4_t lanes) {
    static constexpr uint32_t kBits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(lanes, vld1q_u32(kBits)));
  }
};

template <int Bits, int Words>
struct WordSum : ByteColumns<Vector> {
  using Weights = uint8x16_t;
#ifdef __ARM_FEATURE_MATMUL_INT8
  static constexpr bool kSigned = false;
#else
  static constexpr bool kSigned = Bits == 8;  // weights of 8 bits are then stored + 128 and used without it
#endif
  static Weights prepare(uint8x16_t weights) { return kSigned ? veorq_u8(weights, vdupq_n_u8(128)) : weights; }
  template <int I>
  void add(Weights weights, uint8x16_t column) {
    const int32x4_t before = I == 0 ? vdupq_n_s32(0) : sum;
#ifdef __ARM_FEATURE_MATMUL_INT8
    sum = vusdotq_s32(before, weights, vreinterpretq_s8_u8(column));
#else
    sum = vdotq_s32(before, vreinterpretq_s8_u8(weights), vreinterpretq_s8_u8(column));
#endif
  }
  int32x4_t total(int32_t correction) const { return kSigned ? sum : vaddq_s32(sum, vdupq_n_s32(correction)); }
  int32x4_t sum;
};

}  // namespace

}  // namespace cllm
