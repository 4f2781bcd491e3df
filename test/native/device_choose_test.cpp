// Greedy choice: compares the device with the CPU, and with planted winners.
#include <algorithm>
#include <cmath>
#include <limits>

#include "device_test.h"
#include "device_world.h"

namespace cllm {

void fill(float* row, int64_t vocab, int kind, std::mt19937& random) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < vocab; i++) {
    switch (kind) {
      case 0: row[i] = normal(random); break;
      case 1: row[i] = std::round(normal(random)); break;
      case 2: row[i] = random() % 2 != 0 ? 0.0f : -0.0f; break;
      case 3: row[i] = -kInf; break;
      case 4: row[i] = nan; break;
      case 5: row[i] = random() % 3 == 0 ? nan : normal(random); break;
      case 6: row[i] = random() % 3 == 0 ? -kInf : nan; break;
      default: row[i] = random() % 2 != 0 ? -kInf : -1e30f; break;
    }
  }
  if (kind == 7) {  // ties far apart, at the ends and in the middle
    const auto at = static_cast<int64_t>(random() % static_cast<uint64_t>(vocab));
    row[at] = row[vocab - 1] = row[vocab / 2] = 1.0f;
  }
}

void check_choose() {
  std::mt19937 random(7);
  int64_t cases = 0;
  for (const int64_t vocab : {1, 3, 31, 32, 33, 1023, 1024, 1025, 4095, 32000, 49152, 128256, 151936, 151937}) {
    if (quick && vocab > 40'000) continue;
    const auto device = make_device(), reference = make_cpu_device();  // memory goes with its device
    for (const int64_t rows : {64, 7, 2, 1}) {  // the first call makes the scratch that all share
      if (rows * vocab > (quick ? 250'000 : 10'000'000)) continue;
      const int64_t stride = vocab + static_cast<int64_t>(random() % 4), base = static_cast<int64_t>(random() % 4);
      std::vector<float> logits(static_cast<size_t>(base + rows * stride));
      for (int64_t r = 0; r < rows; r++) {
        fill(logits.data() + base + r * stride, vocab, static_cast<int>((r + vocab) % kLogitKinds), random);
      }
      std::vector<Token> found[2];  // on the CPU, on the device
      for (int side = 0; side < 2; side++) {
        KernelDevice& on = side == 0 ? *reference : *device;
        DeviceArray<float> input(on, logits);
        DeviceArray<Token> output(on, std::vector<Token>(static_cast<size_t>(rows), -1));
        ChooseArgs args;
        args.logits = input.data + base;
        args.rows = rows;
        args.vocab = vocab;
        args.stride = stride;
        args.choices = output.data;
        on.choose(args);
        on.wait();
        found[side] = output.download();
      }
      for (size_t r = 0; r < found[0].size(); r++) {
        cases++;
        if (found[0][r] == found[1][r]) continue;
        report("choose", "vocabulary " + std::to_string(vocab) + ", row " + std::to_string(r) + ": expected " +
                             std::to_string(found[0][r]) + " but received " + std::to_string(found[1][r]));
        return;
      }
    }
  }
  report("choose: " + std::to_string(cases) + " rows", "");
}

/// Plants winners on both sides of every place where a row may be cut in parts, each winner in a row of its own.
void check_planted() {
  constexpr int64_t kPart = 2048, kAround = 5;  // kPart is that of cuda/kernels/choose.cu
  constexpr size_t kRows = 48;                  // with more rows a row would be cut in fewer parts
  int64_t cases = 0;
  for (const int64_t vocab : {1, 5, 1023, 8195, 20483, 32003}) {
    if (quick && vocab > 10'000) continue;
    const int64_t parts = (vocab + kPart - 1) / kPart;
    std::vector<Token> winners;
    for (int64_t part = 0; part <= parts; part++) {
      const int64_t cut = vocab * part / parts;
      for (int64_t at = std::max<int64_t>(0, cut - kAround); at < std::min(vocab, cut + kAround); at++) {
        winners.push_back(static_cast<Token>(at));
      }
    }
    for (size_t first = 0; first < winners.size(); first += kRows) {
      const std::vector<Token> expected(
          winners.begin() + static_cast<std::ptrdiff_t>(first),
          winners.begin() + static_cast<std::ptrdiff_t>(std::min(first + kRows, winners.size())));
      const auto rows = static_cast<int64_t>(expected.size());
      std::vector<float> logits(static_cast<size_t>(rows * vocab), -1.0f);
      for (size_t r = 0; r < expected.size(); r++)
        logits[r * static_cast<size_t>(vocab) + static_cast<size_t>(expected[r])] = 1;
      const auto device = make_device();
      DeviceArray<float> input(*device, logits);
      DeviceArray<Token> output(*device, std::vector<Token>(expected.size(), -1));
      ChooseArgs args;
      args.logits = input.data;
      args.rows = rows;
      args.vocab = args.stride = vocab;
      args.choices = output.data;
      device->choose(args);
      device->wait();
      cases += rows;
      const auto& found = output.download();
      const auto at = std::mismatch(found.begin(), found.end(), expected.begin());
      if (at.first == found.end()) continue;
      return report("planted winners", "vocabulary " + std::to_string(vocab) + ": expected " +
                                           std::to_string(*at.second) + " but received " + std::to_string(*at.first));
    }
  }
  report("planted winners: " + std::to_string(cases) + " rows", "");
}

}  // namespace cllm
