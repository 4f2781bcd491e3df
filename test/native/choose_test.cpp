// Tests of choose() on rows that no model makes: ties, NaNs, infinities, odd strides.

#include "kernels/choose.h"

#include <cmath>
#include <limits>
#include <random>

#include "unit_test.h"

using cllm::Token;

namespace {

Token naive_choice(const float* row, int64_t vocab) {
  int64_t best = -1;
  for (int64_t i = 0; i < vocab; i++) {
    if (std::isnan(row[i])) continue;
    if (best < 0 || row[i] > row[best]) best = i;
  }
  return static_cast<Token>(best < 0 ? 0 : best);
}

}  // namespace

void test_choose() {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int64_t vocab :
       {1, 3, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 4095, 32000, 49152, 128256, 151936, 151937}) {
    const auto pick = [&] { return static_cast<size_t>(random() % static_cast<uint64_t>(vocab)); };
    for (int kind = 0; kind < 12; kind++) {
      const int64_t rows = 3, stride = vocab + kind % 3;  // an odd stride misaligns the rows
      std::vector<float> logits(static_cast<size_t>(rows * stride + 1));
      for (auto& x : logits) {
        x = kind == 0   ? normal(random)
            : kind == 1 ? std::round(normal(random))  // many ties
            : kind == 2 ? (random() % 2 != 0 ? 0.0f : -0.0f)
            : kind == 3 ? -kInf
            : kind == 4 ? nan
            : kind == 5 ? (random() % 3 == 0 ? nan : normal(random))
            : kind == 6 ? (random() % 3 == 0 ? -kInf : nan)
            : kind == 7 ? (random() % 50 == 0 ? kInf : normal(random))
                        : -5.0f;
      }
      for (int64_t r = 0; r < rows; r++) {
        float* row = logits.data() + 1 + r * stride;
        if (kind == 8) row[pick()] = row[pick()] = 7.0f;  // two equal winners anywhere
        if (kind == 9) row[vocab - 1] = 7.0f;
        if (kind == 10) row[0] = nan, row[vocab - 1] = -4.0f;
        if (kind == 11) row[0] = row[vocab - 1] = std::numeric_limits<float>::denorm_min();
      }
      std::vector<Token> tokens(static_cast<size_t>(rows), -7);
      cllm::choose(
          {.logits = logits.data() + 1, .rows = rows, .vocab = vocab, .stride = stride, .choices = tokens.data()});
      for (int64_t r = 0; r < rows; r++) {
        const Token expected = naive_choice(logits.data() + 1 + r * stride, vocab);
        check(tokens[static_cast<size_t>(r)] == expected,
              "choose: vocab " + std::to_string(vocab) + ", kind " + std::to_string(kind) + ": " +
                  std::to_string(tokens[static_cast<size_t>(r)]) + " instead of " + std::to_string(expected));
      }
    }
  }
}
