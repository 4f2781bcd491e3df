// Bytes per second of `choose` on the CPU, and of a loop that only reads, on the same rows in turn, as one JSON line:
//   cllm-choose-bench ROWS VOCAB ROUNDS
#include "kernels/choose.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/vector_bytes.h"

namespace {

constexpr int kWidth = cllm::kVectorBytes / sizeof(uint32_t);
typedef uint32_t Vector __attribute__((vector_size(cllm::kVectorBytes)));

/// Reads every byte once, with the least work per load that a compiler cannot leave out.
uint32_t read_all(const float* data, size_t count) {
  constexpr size_t kUnroll = 8;
  Vector sums[kUnroll] = {};
  size_t i = 0;
  for (; i + kUnroll * kWidth <= count; i += kUnroll * kWidth) {
    for (size_t u = 0; u < kUnroll; u++) {
      Vector x;
      std::memcpy(&x, data + i + u * kWidth, sizeof(x));
      sums[u] |= x;
    }
  }
  uint32_t all = 0;
  for (const Vector& sum : sums) {
    for (int k = 0; k < kWidth; k++) all |= sum[k];
  }
  return all;
}

template <typename Body>
double seconds(int times, Body body) {
  const auto started = std::chrono::steady_clock::now();
  for (int i = 0; i < times; i++) body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count() / times;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int64_t rows = std::atoll(argv[1]), vocab = std::atoll(argv[2]);
  const int rounds = std::atoi(argv[3]);
  std::vector<float> logits(static_cast<size_t>(rows * vocab));
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (float& x : logits) x = normal(random);
  std::vector<cllm::Token> choices(static_cast<size_t>(rows));
  volatile uint32_t sink = 0;
  const double bytes = static_cast<double>(logits.size()) * sizeof(float);
  const int times = static_cast<int>(1 + 2e8 / bytes);
  std::printf("{\"rows\": %lld, \"vocab\": %lld, \"samples\": [", static_cast<long long>(rows),
              static_cast<long long>(vocab));
  for (int round = 0; round <= rounds; round++) {
    const double read = seconds(times, [&] { sink = sink + read_all(logits.data(), logits.size()); });
    const double choose = seconds(times, [&] {
      cllm::choose({.logits = logits.data(), .rows = rows, .vocab = vocab, .stride = vocab, .choices = choices.data()});
    });
    if (round == 0) continue;  // warms up
    std::printf("%s{\"read\": %.4g, \"choose\": %.4g}", round == 1 ? "" : ", ", bytes / read, bytes / choose);
  }
  std::printf("]}\n");
  return 0;
}
