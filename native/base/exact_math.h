#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/host_device.h"

namespace cllm {

// A logarithm and an exponential that add to a product only by fmaf. So no compiler can round differently, and every
// implementation, on a CPU or a GPU, has the same result bit for bit.

CLLM_HOST_DEVICE inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}
CLLM_HOST_DEVICE inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

/// Natural logarithm of a positive normal number, to about one unit in the last place. Polynomial of Cephes' logf.
CLLM_HOST_DEVICE inline float log_of(float x) {
  // x = m 2^e with m in [sqrt(1/2), sqrt(2))
  const uint32_t shifted = bits_of(x) - 0x3f3504f3u;
  const float e = static_cast<float>(static_cast<int32_t>(shifted) >> 23);
  const float f = float_of((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const float z = f * f;
  float p = 7.0376836292e-2f;
  p = fmaf(p, f, -1.1514610310e-1f);
  p = fmaf(p, f, 1.1676998740e-1f);
  p = fmaf(p, f, -1.2420140846e-1f);
  p = fmaf(p, f, 1.4249322787e-1f);
  p = fmaf(p, f, -1.6668057665e-1f);
  p = fmaf(p, f, 2.0000714765e-1f);
  p = fmaf(p, f, -2.4999993993e-1f);
  p = fmaf(p, f, 3.3333331174e-1f);
  const float y = fmaf(e, -2.12194440e-4f, f * z * p);
  return fmaf(e, 0.693359375f, fmaf(-0.5f, z, y) + f);
}

/// exp(x) for x <= 0, to about one unit in the last place; 0 below -80.
CLLM_HOST_DEVICE inline float exp_of(float x) {
  const float clamped = x < -80.0f ? -80.0f : x;
  const float n = fmaf(clamped, 1.44269504f, 12582912.0f) - 12582912.0f;  // rounded to the next integer
  const float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, clamped));
  float p = 1.9875691500e-4f;
  p = fmaf(p, r, 1.3981999507e-3f);
  p = fmaf(p, r, 8.3334519073e-3f);
  p = fmaf(p, r, 4.1665795894e-2f);
  p = fmaf(p, r, 1.6666665459e-1f);
  p = fmaf(p, r, 5.0000001201e-1f);
  const float y = fmaf(p, r * r, r) + 1.0f;
  const float power = float_of(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
  return x < -80.0f ? 0.0f : y * power;
}

}  // namespace cllm
