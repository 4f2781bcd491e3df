// Sampling and biases: compares the CPU with the rule, and the device with the CPU.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "device_test.h"
#include "device_world.h"

namespace cllm {

namespace {

constexpr int64_t kBlock = 4, kCandidates = 2, kLanes = 6;
constexpr int64_t kRowsPerLane = kBlock * kCandidates, kRows = kRowsPerLane * kLanes;

size_t lane_of(int64_t row) { return static_cast<size_t>(row / kRowsPerLane); }
bool has_bias(size_t lane) { return lane == 1 || lane == 4; }

float noise_of(uint64_t seed, Token token, int64_t position) {
  const auto id = static_cast<uint32_t>(token);
  return gumbel_of(word_of(philox(seed, noise_counter(id), static_cast<uint32_t>(position)), noise_word(id)));
}

/// Logits, biases and lanes of different settings, one of which is greedy.
struct SamplingCase {
  SamplingCase(int64_t vocab, int round, std::mt19937& random);
  /// Changes logits and settings so that the last bits of a logarithm or an exponential decide the choices.
  void plant_near_ties(std::mt19937& random);
  void plant_tie_of_scores(int64_t r, std::mt19937& random);
  void plant_edge_of_top_p(size_t lane, std::mt19937& random);
  int64_t position_of(int64_t r) const { return states[lane_of(r)].position + 1 + r % kBlock; }
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

void SamplingCase::plant_near_ties(std::mt19937& random) {
  std::fill(logits.begin(), logits.end(), -std::numeric_limits<float>::infinity());
  std::fill(biases.begin(), biases.end(), 0.0f);
  for (size_t b = 0; b < kLanes; b++) {
    samplings[b] = {.temperature = 1, .seed = samplings[b].seed};
    if (b % 2 != 0) plant_edge_of_top_p(b, random);
  }
  for (int64_t r = 0; r < kRows; r++) {
    if (lane_of(r) % 2 == 0) plant_tie_of_scores(r, random);
  }
}

/// Gives row r two tokens whose scores are equal but for rounding: the one with less noise has the larger logit.
void SamplingCase::plant_tie_of_scores(int64_t r, std::mt19937& random) {
  const uint64_t seed = samplings[lane_of(r)].seed;
  Token low = static_cast<Token>(random() % static_cast<uint64_t>(vocab));
  Token high = static_cast<Token>(random() % static_cast<uint64_t>(vocab));
  float low_noise = noise_of(seed, low, position_of(r)), high_noise = noise_of(seed, high, position_of(r));
  if (low_noise > high_noise) {
    std::swap(low, high);
    std::swap(low_noise, high_noise);
  }
  logits[static_cast<size_t>(r * stride + high)] = low_noise - high_noise;
  logits[static_cast<size_t>(r * stride + low)] = 0;
}

/// Gives the lane a few tokens, whose summed weights reach top_p with one of them, but for rounding. They are drawn
/// with almost equal odds.
void SamplingCase::plant_edge_of_top_p(size_t lane, std::mt19937& random) {
  const auto count = static_cast<size_t>(std::min<int64_t>(vocab, 6));
  std::vector<float> values = {0.0f};  // falling
  while (values.size() < count) values.push_back(values.back() - 0.01f * static_cast<float>(1 + random() % 90));
  uint64_t sum = 0, sum_to_edge = 0;
  const size_t edge = random() % count;
  for (size_t i = 0; i < count; i++) {
    sum += weight_of(values[i], values[0]);
    if (i <= edge) sum_to_edge = sum;
  }
  samplings[lane].temperature = 1000;
  samplings[lane].top_p = static_cast<float>(static_cast<double>(sum_to_edge) / static_cast<double>(sum));
  for (int64_t r = static_cast<int64_t>(lane) * kRowsPerLane; lane_of(r) == lane; r++) {
    std::copy(values.begin(), values.end(), logits.begin() + static_cast<std::ptrdiff_t>(r * stride));
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
  if (has_bias(lane_of(r))) {
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

/// Runs one case; returns the first failure, or "". `greedy_draws` counts the sampled rows whose choice was the greedy
/// one.
std::string compare_choices(const SamplingCase& inputs, int64_t& cases, int64_t& greedy_draws) {
  const auto on_cpu = inputs.choose_on(*make_cpu_device()), on_device = inputs.choose_on(*make_device());
  std::vector<float> row;
  for (int64_t r = 0; r < kRows; r++) {
    const auto at = static_cast<size_t>(r);
    const Sampling& sampling = inputs.samplings[lane_of(r)];
    const Token greedy = inputs.greedy_choice(r, row);
    Token expected = greedy;
    if (sampling.temperature > 0) {
      expected = sampled_by_the_rule(row.data(), inputs.vocab, sampling, inputs.position_of(r), greedy);
      greedy_draws += expected == greedy ? 1 : 0;
    }
    cases++;
    if (on_cpu[at] == expected && on_device[at] == expected) continue;
    return "row " + std::to_string(r) + ": expected " + std::to_string(expected) + " but received " +
           std::to_string(on_cpu[at]) + " on the CPU, " + std::to_string(on_device[at]) + " on the device";
  }
  return "";
}

}  // namespace

void check_sampling() {
  std::mt19937 random(11);
  int64_t cases = 0, greedy_draws = 0, near_ties = 0, greedy_near_ties = 0;
  for (const int64_t vocab : {1, 3, 63, 64, 65, 1025, 4095, 32000}) {
    if (quick && vocab > 5000) continue;
    const auto fail = [&](const std::string& what, const std::string& failure) {
      report("sampling", "vocabulary " + std::to_string(vocab) + ", " + what + ", " + failure);
    };
    const int rounds = quick ? 3 : 6;
    for (int round = 0; round < rounds; round++) {
      const std::string failure = compare_choices(SamplingCase(vocab, round, random), cases, greedy_draws);
      if (!failure.empty()) return fail("round " + std::to_string(round), failure);
    }
    std::mt19937 random_ties(static_cast<uint32_t>(vocab));
    for (int round = 0; round < rounds; round++) {
      SamplingCase ties(vocab, round, random_ties);
      ties.plant_near_ties(random_ties);
      const std::string failure = compare_choices(ties, near_ties, greedy_near_ties);
      if (!failure.empty()) return fail("near-ties, round " + std::to_string(round), failure);
    }
  }
  report("sampling: " + std::to_string(cases) + " rows, " + std::to_string(near_ties) + " near-ties",
         greedy_draws < cases * 3 / 4 ? "" : "hardly any noise");
}

}  // namespace cllm
