// Sampling and biases: the CPU against the rule, the device against the CPU.
#include <algorithm>
#include <cmath>
#include <limits>

#include "device_test.h"
#include "device_world.h"

namespace cllm {

namespace {

constexpr int64_t kBlock = 4, kCandidates = 2, kLanes = 6;
constexpr int64_t kRowsPerLane = kBlock * kCandidates, kRows = kRowsPerLane * kLanes;

bool has_bias(size_t lane) { return lane == 1 || lane == 4; }

/// Logits, biases and lanes of different settings, one of which is greedy.
struct SamplingCase {
  SamplingCase(int64_t vocab, int round, std::mt19937& random);
  std::vector<Token> choose_on(KernelDevice& device) const;
  /// The greedy choice of row r, after its lane's biases were added to `row`.
  Token greedy_choice(int64_t r, std::vector<float>& row) const;

  int64_t vocab, stride;
  std::vector<float> logits, biases;
  std::vector<Sampling> samplings;
  std::vector<LaneState> states;
};

SamplingCase::SamplingCase(int64_t vocab, int round, std::mt19937& random)
    : vocab(vocab),
      stride(vocab + round % 3),
      logits(static_cast<size_t>(kRows * stride)),
      biases(static_cast<size_t>(vocab)),
      samplings(kLanes),
      states(kLanes) {
  const float spread = round % 2 != 0 ? 8.0f : 1.0f;
  for (int64_t r = 0; r < kRows; r++) {
    float* row = logits.data() + r * stride;
    fill(row, vocab, round < 2 ? 0 : static_cast<int>((r + round) % kLogitKinds), random);
    for (int64_t i = 0; i < vocab; i++) row[i] *= spread;
  }
  for (auto& value : biases) value = random() % 4 == 0 ? -std::numeric_limits<float>::infinity() : 0.5f;
  for (size_t b = 0; b < kLanes; b++) {
    states[b].position = static_cast<int32_t>(random() % 5000);
    samplings[b] = {.temperature = b == 2 ? 0.0f : 0.2f + 0.4f * static_cast<float>(random() % 5),
                    .top_k = static_cast<int32_t>(b % 2 != 0 ? 1 + random() % 50 : 0),
                    .top_p = b >= 3 ? 0.05f + 0.09f * static_cast<float>(random() % 11) : 1.0f,
                    .min_p = b % 3 == 1 ? 0.02f * static_cast<float>(random() % 10) : 0.0f,
                    .seed = random() * 0x100000001ull};
  }
}

std::vector<Token> SamplingCase::choose_on(KernelDevice& device) const {
  DeviceArray<float> input(device, logits), bias(device, biases);
  std::vector<const float*> table(kLanes, nullptr);
  for (size_t b = 0; b < kLanes; b++) {
    if (has_bias(b)) table[b] = bias.data;
  }
  DeviceArray<const float*> lane_biases(device, table);
  DeviceArray<Sampling> settings(device, samplings);
  DeviceArray<LaneState> lanes(device, states);
  DeviceArray<Token> output(device, std::vector<Token>(kRows, -1));
  device.bias({.logits = input.data,
               .rows = kRows,
               .vocab = vocab,
               .stride = stride,
               .rows_per_lane = kRowsPerLane,
               .biases = lane_biases.data});
  device.choose({.logits = input.data,
                 .rows = kRows,
                 .vocab = vocab,
                 .stride = stride,
                 .choices = output.data,
                 .sampling = settings.data,
                 .rows_per_lane = kRowsPerLane,
                 .lanes = lanes.data,
                 .block = static_cast<int32_t>(kBlock)});
  device.wait();
  return output.download();
}

Token SamplingCase::greedy_choice(int64_t r, std::vector<float>& row) const {
  const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(r * stride);
  row.assign(begin, begin + static_cast<std::ptrdiff_t>(vocab));
  if (has_bias(static_cast<size_t>(r / kRowsPerLane))) {
    for (size_t i = 0; i < row.size(); i++) row[i] += biases[i];
  }
  Token greedy = -1;
  choose({.logits = row.data(), .rows = 1, .vocab = vocab, .stride = vocab, .choices = &greedy});
  return greedy;
}

/// Applies the rule of Sampling step by step as its text has it, without regard to speed.
Token sampled_by_the_rule(const float* row, int64_t vocab, const Sampling& sampling, int64_t position, Token greedy) {
  const float largest = row[greedy];
  if (!(largest > -std::numeric_limits<float>::infinity())) return greedy;
  std::vector<Token> tokens;
  for (int64_t i = 0; i < vocab; i++) {
    if (!std::isnan(row[i])) tokens.push_back(static_cast<Token>(i));
  }
  std::stable_sort(tokens.begin(), tokens.end(), [&](Token a, Token b) { return row[a] > row[b]; });
  if (sampling.top_k > 0) tokens.resize(std::min(tokens.size(), static_cast<size_t>(sampling.top_k)));
  uint64_t sum = 0, reached = 0;
  for (const Token token : tokens) sum += weight_of(row[token], largest);
  if (sampling.top_p < 1) {
    size_t count = 0;
    while (reached < wanted_weight(sum, sampling.top_p)) reached += weight_of(row[tokens[count++]], largest);
    tokens.resize(count);
  }
  Token best = -1;
  float score = 0;
  for (const Token token : tokens) {
    if (sampling.min_p > 0 && !(row[token] >= largest + log_of(sampling.min_p))) continue;
    const auto id = static_cast<uint32_t>(token);
    const Philox noise = philox(sampling.seed, noise_counter(id), static_cast<uint32_t>(position));
    const float other = score_of(row[token], largest, 1.0f / sampling.temperature, word_of(noise, noise_word(id)));
    if (best < 0 || other > score || (other == score && token < best)) {
      best = token;
      score = other;
    }
  }
  return best;
}

}  // namespace

void check_sampling() {
  std::mt19937 random(11);
  std::vector<float> row;
  int64_t cases = 0, greedy_draws = 0;
  for (const int64_t vocab : {1, 3, 63, 64, 65, 1025, 4095, 32000}) {
    if (quick && vocab > 5000) continue;
    for (int round = 0; round < (quick ? 3 : 6); round++) {
      const SamplingCase inputs(vocab, round, random);
      const auto on_cpu = inputs.choose_on(*make_cpu_device()), on_device = inputs.choose_on(*make_device());
      for (int64_t r = 0; r < kRows; r++) {
        const auto b = static_cast<size_t>(r / kRowsPerLane), at = static_cast<size_t>(r);
        const Token greedy = inputs.greedy_choice(r, row);
        Token expected = greedy;
        if (inputs.samplings[b].temperature > 0) {
          const int64_t position = inputs.states[b].position + 1 + r % kBlock;
          expected = sampled_by_the_rule(row.data(), vocab, inputs.samplings[b], position, greedy);
          greedy_draws += expected == greedy ? 1 : 0;
        }
        cases++;
        if (on_cpu[at] == expected && on_device[at] == expected) continue;
        return report("sampling", "vocabulary " + std::to_string(vocab) + ", round " + std::to_string(round) +
                                      ", row " + std::to_string(r) + ": expected " + std::to_string(expected) +
                                      " but received " + std::to_string(on_cpu[at]) + " on the CPU, " +
                                      std::to_string(on_device[at]) + " on the device");
      }
    }
  }
  report("sampling: " + std::to_string(cases) + " rows", greedy_draws < cases * 3 / 4 ? "" : "hardly any noise");
}

}  // namespace cllm
