#include "kernels/choose.h"

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
typedef int32_t IntVec __attribute__((vector_size(kWidth * sizeof(int32_t))));

struct Best {
  float value;
  int64_t index;
};

inline bool better(const Best& a, const Best& b) {
  return a.value > b.value || (a.value == b.value && a.index < b.index);
}

// Independent accumulators hide the latency of compare + blend: with one, the loop runs at a quarter of the speed.
constexpr int kUnroll = 4;

Token choose_row(const float* row, int64_t vocab) {
  const float lowest = -std::numeric_limits<float>::infinity();
  Best best{lowest, vocab};
  int64_t i = 0;
  if (vocab >= kUnroll * kWidth) {
    FloatVec value[kUnroll];
    IntVec index[kUnroll];
    IntVec at[kUnroll];
    for (int u = 0; u < kUnroll; u++) {
      for (int k = 0; k < kWidth; k++) {
        value[u][k] = lowest;
        index[u][k] = std::numeric_limits<int32_t>::max();
        at[u][k] = u * kWidth + k;
      }
    }
    for (; i + kUnroll * kWidth <= vocab; i += kUnroll * kWidth) {
      for (int u = 0; u < kUnroll; u++) {
        FloatVec x;
        std::memcpy(&x, row + i + u * kWidth, sizeof(x));
        const IntVec wins = x > value[u];  // false for NaN, and for ties: the earlier, lower id stays
        value[u] = wins ? x : value[u];
        index[u] = wins ? at[u] : index[u];
        at[u] += kUnroll * kWidth;
      }
    }
    for (int u = 0; u < kUnroll; u++) {
      for (int k = 0; k < kWidth; k++) {
        const Best lane{value[u][k], index[u][k]};
        if (better(lane, best)) best = lane;
      }
    }
  }
  for (; i < vocab; i++) {
    if (row[i] > best.value) best = {row[i], i};
  }
  if (best.value > lowest) return static_cast<Token>(best.index);
  // Nothing above -inf: the first -inf, or token 0 in a row of NaN.
  for (int64_t k = 0; k < vocab; k++) {
    if (!std::isnan(row[k])) return static_cast<Token>(k);
  }
  return 0;
}

}  // namespace

void choose_greedy(const float* logits, int64_t rows, int64_t vocab, int64_t stride, Token* tokens) {
  for (int64_t r = 0; r < rows; r++) tokens[r] = choose_row(logits + r * stride, vocab);
}

}  // namespace cllm
