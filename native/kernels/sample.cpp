#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/choose.h"
#include "kernels/vector_bytes.h"

namespace cllm {

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
// Tokens are taken in groups of 64, which use all four words of 16 consecutive counters: see noise_counter().
constexpr int kGroup = 64;
constexpr int kCounters = 16;

constexpr int kVecWords = kVectorBytes / sizeof(uint64_t);
typedef uint64_t WordVec __attribute__((vector_size(kVectorBytes)));

/// Multiplies the lower half of each element by b.
inline WordVec multiply_low(WordVec a, uint32_t b) {
#if defined(__AVX512F__)
  return reinterpret_cast<WordVec>(_mm512_mul_epu32(reinterpret_cast<__m512i>(a), _mm512_set1_epi64(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<WordVec>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), _mm256_set1_epi64x(b)));
#else
  return (a & 0xffffffffu) * b;
#endif
}

// The cut of top-k and top-p is first searched for among the logits this close to the largest, then in wider ranges.
constexpr float kFirstRange = 10;

struct Row {
  const float* logits;
  int64_t vocab;
  uint32_t position;  // position that the chosen token takes
  float largest;      // largest logit, above -inf
  Token first;        // lowest id with that logit
};

struct Ranked {
  float logit;
  Token id;
};
bool before(const Ranked& a, const Ranked& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

/// The best score so far and its token.
struct Best {
  float score = kMinusInfinity;
  Token id = 0;
  void offer(float new_score, Token token) {
    if (!(new_score > score || (new_score == score && token < id))) return;
    score = new_score;
    id = token;
  }
};

float score_token(const Row& row, const Sampling& sampling, float inverse, Token token) {
  const auto id = static_cast<uint32_t>(token);
  const Philox noise = philox(sampling.seed, noise_counter(id), row.position);
  return score_of(row.logits[token], row.largest, inverse, word_of(noise, noise_word(id)));
}

/// philox() of the 16 counters that begin with `first`. Each word is kept in 64 bits, whose upper half is ignored.
void philox_16(uint64_t seed, uint32_t first, uint32_t position, uint32_t (&words)[4][kCounters]) {
  for (int part = 0; part < kCounters; part += kVecWords) {
    WordVec x[4] = {{}, WordVec{} + position, {}, {}};
    for (int i = 0; i < kVecWords; i++) x[0][i] = first + static_cast<uint32_t>(part + i);
    auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < kPhiloxRounds; round++) {
      const WordVec a = multiply_low(x[0], kPhiloxA), b = multiply_low(x[2], kPhiloxB);
      x[0] = (b >> 32) ^ x[1] ^ k0;
      x[1] = b;
      x[2] = (a >> 32) ^ x[3] ^ k1;
      x[3] = a;
      k0 += kPhiloxWeylA;
      k1 += kPhiloxWeylB;
    }
    for (int w = 0; w < 4; w++) {
      for (int i = 0; i < kVecWords; i++) words[w][part + i] = static_cast<uint32_t>(x[w][i]);
    }
  }
}

/// Scores of the 64 tokens of a group.
void score_group(const Row& row, const Sampling& sampling, float inverse, int64_t group, float* scores) {
  uint32_t words[4][kCounters];
  philox_16(sampling.seed, static_cast<uint32_t>(group) * kCounters, row.position, words);
  const float* logits = row.logits + group * kGroup;
  const float largest = row.largest;
  for (int w = 0; w < 4; w++) {
    for (int i = 0; i < kCounters; i++) {
      scores[w * kCounters + i] = score_of(logits[w * kCounters + i], largest, inverse, words[w][i]);
    }
  }
}

float largest_of(const float* values, int count) {
  constexpr int kLanes = 16;
  float lanes[kLanes];
  for (float& lane : lanes) lane = kMinusInfinity;
  for (int i = 0; i < count; i += kLanes) {
    for (int k = 0; k < kLanes; k++) lanes[k] = values[i + k] > lanes[k] ? values[i + k] : lanes[k];
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; k++) lanes[k] = lanes[k + half] > lanes[k] ? lanes[k + half] : lanes[k];
  }
  return lanes[0];
}

/// Draws from all tokens with a logit of at least `lowest`.
Token draw_from_all(const Row& row, const Sampling& sampling, float inverse, float lowest) {
  Best best;
  best.offer(score_token(row, sampling, inverse, row.first), row.first);
  float scores[kGroup];
  const int64_t groups = row.vocab / kGroup;
  for (int64_t group = 0; group < groups; group++) {
    const float* logits = row.logits + group * kGroup;
    const float top = largest_of(logits, kGroup);
    // A group that cannot win needs no noise. Most groups of a language model's row cannot win.
    if (!(top >= lowest) || fmaf(top - row.largest, inverse, kMaxGumbel) < best.score) continue;
    score_group(row, sampling, inverse, group, scores);
    if (lowest > kMinusInfinity) {
      for (int i = 0; i < kGroup; i++) scores[i] = logits[i] >= lowest ? scores[i] : kMinusInfinity;
    }
    const float score = largest_of(scores, kGroup);
    if (!(score >= best.score)) continue;
    for (int i = 0; i < kGroup; i++) best.offer(scores[i], static_cast<Token>(group * kGroup + i));
  }
  for (int64_t token = groups * kGroup; token < row.vocab; token++) {
    if (row.logits[token] >= lowest) {
      best.offer(score_token(row, sampling, inverse, static_cast<Token>(token)), static_cast<Token>(token));
    }
  }
  return best.id;
}

/// The sum of weight_of() over the row. Weights are converted in two halves of 20 bits: every CPU can do that in
/// vectors, and it rounds nothing.
uint64_t sum_of_weights(const Row& row) {
  uint64_t sum = 0;
  int64_t i = 0;
  const float largest = row.largest;
  for (; i + kGroup <= row.vocab; i += kGroup) {
    const float* logits = row.logits + i;
    float weights[kGroup];
    for (int k = 0; k < kGroup; k++) {
      const float difference = logits[k] == largest ? 0.0f : logits[k] - largest;
      const float weight = exp_of(difference) * 0x1p20f;
      weights[k] = difference <= 0.0f ? weight : 0.0f;
    }
    int32_t high = 0, low = 0;
    for (int k = 0; k < kGroup; k++) {
      const auto upper = static_cast<int32_t>(weights[k]);
      high += upper;
      low += static_cast<int32_t>((weights[k] - static_cast<float>(upper)) * 0x1p20f);
    }
    sum += (static_cast<uint64_t>(high) << 20) + static_cast<uint64_t>(low);
  }
  for (; i < row.vocab; i++) sum += weight_of(row.logits[i], largest);
  return sum;
}

/// Collects the tokens with a logit of at least `min_logit`, in any order.
void gather(const Row& row, float min_logit, std::vector<Ranked>& found) {
  found.clear();
  int64_t i = 0;
  for (; i + kGroup <= row.vocab; i += kGroup) {
    if (!(largest_of(row.logits + i, kGroup) >= min_logit)) continue;
    for (int64_t k = i; k < i + kGroup; k++) {
      if (row.logits[k] >= min_logit) found.push_back({row.logits[k], static_cast<Token>(k)});
    }
  }
  for (; i < row.vocab; i++) {
    if (row.logits[i] >= min_logit) found.push_back({row.logits[i], static_cast<Token>(i)});
  }
}

uint64_t sum_of_weights(const Row& row, const std::vector<Ranked>& tokens) {
  uint64_t sum = 0;
  for (const Ranked& token : tokens) sum += weight_of(token.logit, row.largest);
  return sum;
}

/// Steps 1 and 2 of the rule of Sampling: fills `kept` with the tokens that remain, in the order of that rule.
void cut_top_k_and_p(const Row& row, const Sampling& sampling, std::vector<Ranked>& kept) {
  const bool by_count = sampling.top_k > 0;
  const auto top_k = static_cast<size_t>(sampling.top_k);
  // With top-k, top-p is a share of the weights that top-k keeps, so it is computed below.
  uint64_t wanted = by_count ? 0 : wanted_weight(sum_of_weights(row), sampling.top_p);
  for (float range = kFirstRange;; range *= 4) {
    const float min_logit = range < 1e30f ? row.largest - range : kMinusInfinity;
    gather(row, min_logit, kept);
    const bool enough = by_count ? kept.size() >= top_k : sum_of_weights(row, kept) >= wanted;
    if (enough || !(min_logit > kMinusInfinity)) break;
  }
  if (by_count && kept.size() > top_k) {
    std::nth_element(kept.begin(), kept.begin() + static_cast<std::ptrdiff_t>(top_k) - 1, kept.end(), before);
    kept.resize(top_k);
  }
  std::sort(kept.begin(), kept.end(), before);
  if (sampling.top_p >= 1) return;
  if (by_count) wanted = wanted_weight(sum_of_weights(row, kept), sampling.top_p);
  uint64_t sum = 0;
  size_t count = 0;
  while (count < kept.size() && sum < wanted) sum += weight_of(kept[count++].logit, row.largest);
  kept.resize(count);
}

}  // namespace

Token sample_row(const float* logits, int64_t vocab, const Sampling& sampling, int64_t position, Token first) {
  const Row row{logits, vocab, static_cast<uint32_t>(position), logits[first], first};
  if (!(row.largest > kMinusInfinity)) return first;
  const float inverse = 1.0f / sampling.temperature;
  const float lowest = sampling.min_p > 0 ? row.largest + log_of(sampling.min_p) : kMinusInfinity;
  if (sampling.top_k == 0 && sampling.top_p >= 1) return draw_from_all(row, sampling, inverse, lowest);
  thread_local std::vector<Ranked> kept;
  cut_top_k_and_p(row, sampling, kept);
  Best best;
  for (const Ranked& token : kept) {
    if (token.logit >= lowest) best.offer(score_token(row, sampling, inverse, token.id), token.id);
  }
  return best.id;
}

}  // namespace cllm
