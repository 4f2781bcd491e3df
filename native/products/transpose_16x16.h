#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#define CLLM_TRANSPOSE_16X16 1

namespace cllm {

/// Transposes 16 lines of 16 words of 32 bits with AVX-512: word c of line r becomes word r of line c.
inline void transpose_16x16(__m512i (&lines)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(lines[i], lines[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(lines[i], lines[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    lines[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    lines[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    lines[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    lines[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 16; i += 8) {
    for (int j = 0; j < 4; j++) {
      t[i + j] = _mm512_shuffle_i32x4(lines[i + j], lines[i + j + 4], 0x88);
      t[i + j + 4] = _mm512_shuffle_i32x4(lines[i + j], lines[i + j + 4], 0xdd);
    }
  }
  for (int j = 0; j < 8; j++) {
    lines[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
    lines[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
  }
}

}  // namespace cllm

#endif
