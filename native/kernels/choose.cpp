#include "kernels/choose.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/vector_bytes.h"

namespace cllm {

namespace {

constexpr int kWidth = kVectorBytes / sizeof(float);
typedef float FloatVec __attribute__((vector_size(kVectorBytes)));
typedef int32_t IntVec __attribute__((vector_size(kVectorBytes)));

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Independent accumulators hide the latency of the comparison.
constexpr int kUnroll = 4;
// A row is read in parts of this many logits. Within a part only the largest value of each vector lane is kept, which
// takes one instruction per vector. The index of the winning part is updated once per part, and the winner's place
// within its part is searched for at the end.
constexpr int64_t kPart = 16 * kWidth;
static_assert(kPart % (kUnroll * kWidth) == 0);

/// The largest logit of a part in each vector lane, or -inf where no logit is above it.
FloatVec part_maximum(const float* logits) {
  FloatVec best[kUnroll];
  for (auto& vector : best) vector = FloatVec{} + kMinusInfinity;
  for (int64_t i = 0; i < kPart; i += kUnroll * kWidth) {
    for (int u = 0; u < kUnroll; u++) {
      FloatVec x;
      std::memcpy(&x, logits + i + u * kWidth, sizeof(x));
      best[u] = x > best[u] ? x : best[u];  // NaN never wins
    }
  }
  for (int u = 1; u < kUnroll; u++) best[0] = best[u] > best[0] ? best[u] : best[0];
  return best[0];
}

Token choose_row(const float* row, int64_t vocab) {
  const int64_t parts = vocab / kPart;
  FloatVec value = FloatVec{} + kMinusInfinity;
  IntVec part = {};
  for (int64_t p = 0; p < parts; p++) {
    const FloatVec maximum = part_maximum(row + p * kPart);
    const IntVec wins = maximum > value;  // ties stay with the earlier part, and so the lower id
    value = wins ? maximum : value;
    part = wins ? IntVec{} + static_cast<int32_t>(p) : part;
  }
  float best = kMinusInfinity;
  int64_t at = 0;  // no logit in front of this index equals `best`
  for (int k = 0; k < kWidth; k++) {
    const int64_t begin = part[k] * kPart;
    if (value[k] > best || (value[k] == best && begin < at)) {
      best = value[k];
      at = begin;
    }
  }
  for (int64_t i = parts * kPart; i < vocab; i++) {
    if (!(row[i] > best)) continue;
    best = row[i];
    at = i;
  }
  if (best > kMinusInfinity) {
    while (row[at] != best) at++;
    return static_cast<Token>(at);
  }
  // No logit is above -inf: choose the first -inf, or token 0 in a row of only NaN.
  for (int64_t k = 0; k < vocab; k++) {
    if (!std::isnan(row[k])) return static_cast<Token>(k);
  }
  return 0;
}

}  // namespace

void choose(const ChooseArgs& args) {
  for (int64_t r = 0; r < args.rows; r++) {
    const float* row = args.logits + r * args.stride;
    args.choices[r] = choose_row(row, args.vocab);
    if (args.sampling == nullptr) continue;
    const int64_t lane = r / args.rows_per_lane;
    const Sampling& sampling = args.sampling[lane];
    if (sampling.temperature <= 0) continue;
    const int64_t position = args.lanes[lane].position + 1 + r % args.block;
    args.choices[r] = sample_row(row, args.vocab, sampling, position, args.choices[r]);
  }
}

void bias(const BiasArgs& args) {
  for (int64_t r = 0; r < args.rows; r++) {
    const float* biases = args.biases[r / args.rows_per_lane];
    if (biases == nullptr) continue;
    float* row = args.logits + r * args.stride;
    for (int64_t i = 0; i < args.vocab; i++) row[i] += biases[i];
  }
}

}  // namespace cllm
