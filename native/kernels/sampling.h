#pragma once

#include <cmath>
#include <cstdint>

#include "base/exact_math.h"
#include "kernels/types.h"

namespace cllm {

/// How a lane's tokens are chosen. Temperature 0 means greedy choice, and then the other settings have no effect.
///
/// This rule holds for every implementation. Tokens are ordered by logit, the larger first; equal logits are ordered by
/// id, the lower first; tokens with NaN are left out. The steps follow llama.cpp's default order of samplers (top-k,
/// top-p, min-p, temperature):
///
///   1. Keep the first `top_k` tokens.
///   2. Of these keep the shortest prefix whose weights, exp(logit - largest), reach `top_p` of the sum of all their
///      weights.
///   3. Of these keep the tokens with a logit of at least largest + log(min_p).
///   4. Choose the token with the largest (logit - largest) / temperature + gumbel(seed, position, token), of equals
///      the one with the lowest id. Gumbel noise makes this a draw with the probabilities of softmax (Gumbel 1954;
///      Maddison et al. 2014, "A* Sampling").
///
/// `position` is the absolute position that the chosen token takes. So the choice is a function of (logits, seed,
/// position) alone, whatever block, lane or candidate the row belongs to. A draft is therefore checked by equality, as
/// in greedy decoding, and the result is what ordinary decoding would have drawn with the same seed.
///
/// All arithmetic is either on integers or in the float functions below, where a product is added to something only by
/// fmaf, so that no compiler can round differently. So all implementations give the same tokens, bit for bit.
struct Sampling {
  float temperature = 0;  // 0, or 1e-3 .. 1e3
  int32_t top_k = 0;      // 0: off
  float top_p = 1;        // 0 < top_p <= 1; 1: off
  float min_p = 0;        // 0 <= min_p <= 1; 0: off
  uint64_t seed = 0;

  bool operator==(const Sampling&) const = default;
};

/// Output of Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): four words for a
/// counter. Token t uses word (t / 16) % 4 of the counter (t / 64 * 16 + t % 16, position), so that neighbouring tokens
/// are neighbours in a vector.
struct Philox {
  uint32_t words[4];
};
/// words[w] without indexing, which would keep the array out of registers.
CLLM_HOST_DEVICE inline uint32_t word_of(const Philox& noise, uint32_t w) {
  return w < 2 ? (w == 0 ? noise.words[0] : noise.words[1]) : (w == 2 ? noise.words[2] : noise.words[3]);
}
constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxA = 0xD2511F53, kPhiloxB = 0xCD9E8D57, kPhiloxWeylA = 0x9E3779B9, kPhiloxWeylB = 0xBB67AE85;
CLLM_HOST_DEVICE inline uint32_t noise_counter(uint32_t token) { return token / 64 * 16 + token % 16; }
CLLM_HOST_DEVICE inline uint32_t noise_word(uint32_t token) { return token / 16 % 4; }

CLLM_HOST_DEVICE inline Philox philox(uint64_t seed, uint32_t counter, uint32_t position) {
  uint32_t x0 = counter, x1 = position, x2 = 0, x3 = 0;
  auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; round++) {
    const uint64_t a = static_cast<uint64_t>(x0) * kPhiloxA, b = static_cast<uint64_t>(x2) * kPhiloxB;
    x0 = static_cast<uint32_t>(b >> 32) ^ x1 ^ k0;
    x1 = static_cast<uint32_t>(b);
    x2 = static_cast<uint32_t>(a >> 32) ^ x3 ^ k1;
    x3 = static_cast<uint32_t>(a);
    k0 += kPhiloxWeylA;
    k1 += kPhiloxWeylB;
  }
  return {{x0, x1, x2, x3}};
}

/// Gumbel noise from random bits: -log(-log(1 - v)) with v in (0, 1). The rare large values come from small v, which
/// floats can tell apart.
CLLM_HOST_DEVICE inline float gumbel_of(uint32_t bits) {
  const float v = fmaf(static_cast<float>(static_cast<int32_t>(bits >> 1)), 0x1p-31f, 0x1p-32f);
  const float t = v < 1.0f ? 1.0f - v : 0x1p-24f;
  // log1p(-v) is the logarithm of the rounded t = 1 - v, corrected by the rounding error, lost / t (Kahan). 1 / t is
  // approximated by 1 + v + v^2, which is exact enough because nothing is lost for v above 1/2. (A division would be a
  // function call on a GPU.)
  const float lost = v < 1.0f ? (1.0f - t) - v : 0.0f;
  const float exponential = -(log_of(t) + fmaf(lost, fmaf(v, v, v), lost));
  return -log_of(exponential);
}
/// Upper bound of gumbel_of().
constexpr float kMaxGumbel = 22.5f;

/// A token's score in step 4; the largest score wins.
CLLM_HOST_DEVICE inline float score_of(float logit, float largest, float inverse_temperature, uint32_t bits) {
  // The difference of equal infinities would be NaN.
  const float below = logit == largest ? 0.0f : logit - largest;
  return fmaf(below, inverse_temperature, gumbel_of(bits));
}

/// A token's weight in top-p: exp(logit - largest) in units of 2^-40. Sums of up to 2^23 weights fit, and their order
/// does not matter.
CLLM_HOST_DEVICE inline uint64_t weight_of(float logit, float largest) {
  if (logit == largest) return 1ull << 40;
  const float difference = logit - largest;
  return difference < 0.0f ? static_cast<uint64_t>(exp_of(difference) * 0x1p40f) : 0;  // false for NaN
}
/// The weight that the kept prefix must reach: `top_p` of `sum`, and at least one unit.
CLLM_HOST_DEVICE inline uint64_t wanted_weight(uint64_t sum, float top_p) {
  const auto wanted = static_cast<uint64_t>(static_cast<double>(sum) * static_cast<double>(top_p));
  return wanted < 1 ? 1 : wanted;
}

/// A key that is larger for tokens that come earlier in the order: the upper half holds the logit's order, the lower
/// half the complement of the id. NaN gets the smallest key, with id 0, because a row of only NaN chooses token 0.
CLLM_HOST_DEVICE inline uint64_t order_key(float logit, uint32_t id) {
  if (logit != logit) return 0xffffffffu;
  const uint32_t bits = bits_of(logit == 0.0f ? 0.0f : logit);                    // -0 equals +0
  const uint32_t order = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;  // -inf becomes 0x007fffff
  return (static_cast<uint64_t>(order) << 32) | (0xffffffffu - id);
}

}  // namespace cllm
