#include "kernels/choose.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace cllm {

namespace {

// As wide as the registers of this file's instruction-set level: GCC does not split a wider vector, it computes the
// selection element by element (measured on AVX2: 590 us instead of 23 us for 8 rows of 49152).
#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif
typedef float FloatVec __attribute__((vector_size(kWidth * sizeof(float))));

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Independent accumulators hide the latency of the comparison.
constexpr int kUnroll = 8;
// Logits whose maximum is found before anything is asked of their places: few enough to be in the nearest cache when
// the place is looked for, which is rarely, since few parts beat all before them.
constexpr int64_t kPart = 4096;
constexpr int64_t kStep = kUnroll * kWidth;
static_assert(kPart % kStep == 0);

/// The largest of `count` logits, a multiple of kStep; -inf where there is none above.
float part_maximum(const float* logits, int64_t count) {
  FloatVec best[kUnroll];
  for (auto& vector : best) {
    for (int k = 0; k < kWidth; k++) vector[k] = kLowest;
  }
  for (int64_t i = 0; i < count; i += kStep) {
    for (int u = 0; u < kUnroll; u++) {
      FloatVec x;
      std::memcpy(&x, logits + i + u * kWidth, sizeof(x));
      best[u] = x > best[u] ? x : best[u];  // NaN never wins
    }
  }
  for (int u = 1; u < kUnroll; u++) best[0] = best[u] > best[0] ? best[u] : best[0];
  float maximum = best[0][0];
  for (int k = 1; k < kWidth; k++) maximum = best[0][k] > maximum ? best[0][k] : maximum;
  return maximum;
}

Token choose_row(const float* row, int64_t vocab) {
  float best = kLowest;
  int64_t part = 0;  // where the first logit that equals `best` lies
  int64_t i = 0;
  while (i + kStep <= vocab) {
    const int64_t count = std::min(kPart, (vocab - i) / kStep * kStep);
    const float maximum = part_maximum(row + i, count);
    if (maximum > best) {  // ties stay with the earlier part, and so the lower id
      best = maximum;
      part = i;
    }
    i += count;
  }
  for (; i < vocab; i++) {
    if (!(row[i] > best)) continue;
    best = row[i];
    part = i;
  }
  if (best > kLowest) {
    while (row[part] != best) part++;
    return static_cast<Token>(part);
  }
  // Nothing above -inf: the first -inf, or token 0 in a row of NaN.
  for (int64_t k = 0; k < vocab; k++) {
    if (!std::isnan(row[k])) return static_cast<Token>(k);
  }
  return 0;
}

}  // namespace

void choose(const ChooseArgs& args) {
  for (int64_t r = 0; r < args.rows; r++) args.choices[r] = choose_row(args.logits + r * args.stride, args.vocab);
}

}  // namespace cllm
