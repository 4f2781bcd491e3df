// The kernels of this build's own device against the CPU's, by ==: in the CUDA build those of cuda/ on the GPU,
// elsewhere the CPU's with themselves (which then tests this program). One line per check; exit code 1 on a failure.
//
//   cllm-device-test [--quick]        checks; --quick is for compute-sanitizer
//   cllm-device-test --bench          figures as JSON, after a check (device_bench.cpp)

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "device_world.h"

namespace cllm {

int run_device_bench();

namespace {

bool quick = false;
int failures = 0;

void report(const std::string& name, const std::string& failure) {
  if (failure.empty()) {
    std::printf("ok %s\n", name.c_str());
  } else {
    failures++;
    std::printf("FAILED %s: %s\n", name.c_str(), failure.c_str());
  }
  std::fflush(stdout);
}

/// Fills a row of logits in one of the ways that find bugs.
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
constexpr int kKinds = 8;

void check_choose() {
  std::mt19937 random(7);
  int64_t cases = 0;
  for (const int64_t vocab : {1, 3, 31, 32, 33, 1023, 1024, 1025, 4095, 32000, 49152, 128256, 151936, 151937}) {
    if (quick && vocab > 40'000) continue;
    const auto device = make_device(), reference = make_cpu_device();  // memory goes with its device
    for (const int64_t rows : {1, 2, 7, 64}) {
      if (rows * vocab > (quick ? 250'000 : 10'000'000)) continue;
      const int64_t stride = vocab + static_cast<int64_t>(random() % 4), base = static_cast<int64_t>(random() % 4);
      std::vector<float> logits(static_cast<size_t>(base + rows * stride));
      for (int64_t r = 0; r < rows; r++) {
        fill(logits.data() + base + r * stride, vocab, static_cast<int>((r + vocab) % kKinds), random);
      }
      std::vector<Token> found[2];
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

/// Winners planted on both sides of every place where a row may be cut in parts, each in a row of its own.
void check_planted() {
  constexpr int64_t kPart = 2048, kAround = 5;  // as in cuda/choose.cu
  constexpr size_t kRows = 48;                  // more of them would be cut in fewer parts
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

/// What the loops did, so that nobody trusts a check of lanes that stood still, or of none at an edge.
struct Tally {
  int64_t cases = 0, tokens = 0, iterations = 0, rolled = 0, ended = 0;
  int64_t idle = 0, all_accepted = 0, none_accepted = 0, out_of_budget = 0, ended_early = 0, went_on = 0;
  void add(const World& world) {
    const auto& [lanes, candidates, block] = world.options.shape;
    for (size_t at = 0; at < world.ring_host.size(); at += static_cast<size_t>(ring_words(block))) {
      Verdict verdict;
      std::memcpy(&verdict, &world.ring_host[at], sizeof(verdict));
      tokens += verdict.emitted;
      iterations += verdict.emitted > 0;
      rolled += verdict.winner > 0 && verdict.emitted > 1;
      ended += verdict.ended;
      idle += verdict.emitted == 0;
      all_accepted += verdict.emitted > 0 && block > 1 && verdict.accepted == block - 1;
      none_accepted += verdict.emitted > 0 && block > 1 && verdict.accepted == 0;
      out_of_budget += verdict.emitted > 0 && verdict.emitted <= verdict.accepted && verdict.ended == 0;
      ended_early += verdict.ended != 0 && verdict.emitted <= verdict.accepted;
    }
    for (const LaneState& lane : world.lanes.host) went_on += lane_runs(lane, block);
    cases++;
  }
  bool complete() const {
    return rolled > 0 && ended > 0 && idle > 0 && all_accepted > 0 && none_accepted > 0 && out_of_budget > 0 &&
           ended_early > 0 && went_on > 0;
  }
};

/// What verify must find for lane b, written once more from its definition.
Verdict defined_verdict(const World& world, const std::vector<Token>& choices, int32_t b) {
  const auto& [lanes, candidates, block] = world.options.shape;
  const LaneState& lane = world.lanes.host[static_cast<size_t>(b)];
  Verdict verdict;
  verdict.position = lane.position;
  if (!lane_runs(lane, block)) return verdict;
  const auto at = static_cast<std::ptrdiff_t>(b) * candidates * block;
  const auto own = world.tokens.host.begin() + at;
  std::vector<std::ptrdiff_t> accepted;
  for (int32_t c = 0; c < candidates; c++) {
    const auto draft = own + c * block + 1;
    accepted.push_back(std::mismatch(draft, draft + block - 1, choices.begin() + at + c * block).first - draft);
  }
  const auto longest = std::max_element(accepted.begin(), accepted.end());  // the first of equals
  verdict.winner = static_cast<int32_t>(longest - accepted.begin());
  verdict.accepted = static_cast<int32_t>(*longest);
  const auto chosen = choices.begin() + at + verdict.winner * block;
  const bool stops = lane.stop_at_end != 0 && world.options.end_share > 0;
  const auto ends = [&](Token token) { return stops && world.ends.host[static_cast<size_t>(token)] != 0; };
  const auto limit = chosen + std::min(verdict.accepted + 1, lane.budget);
  const auto end = std::find_if(chosen, limit, ends);
  verdict.ended = end != limit;
  verdict.emitted = static_cast<int32_t>(end - chosen) + verdict.ended;
  const auto stood = world.stood.host.begin() + static_cast<std::ptrdiff_t>(b) * block;
  for (int32_t j = 1; j < verdict.emitted; j++) {
    verdict.stationary += stood[j] != 0 && own[j] == own[verdict.winner * block + j];
  }
  return verdict;
}

/// Several iterations of verify, roll_forward and advance on both devices; at the end all memory is equal.
std::string compare_loops(WorldOptions options, int iterations, Tally& tally) {
  const auto device = make_device(), reference = make_cpu_device();
  options.iterations = iterations;
  World ours(*device, options), theirs(*reference, options);
  const auto& s = options.shape;
  const std::string where = "B = " + std::to_string(s.lanes) + ", C = " + std::to_string(s.candidates) +
                            ", n = " + std::to_string(s.block) + ", seed " + std::to_string(options.seed) + ", after ";
  std::mt19937 random(static_cast<uint32_t>(options.seed) + 9);
  for (int i = 0; i < iterations; i++) {
    const std::vector<Token> choices = ours.make_choices(theirs, random);
    ours.set_choices(choices);
    theirs.set_choices(choices);
    std::vector<Verdict> expected;
    theirs.lanes.download();
    theirs.stood.download();
    for (int32_t b = 0; b < s.lanes; b++) expected.push_back(defined_verdict(theirs, choices, b));
    ours.iterate(i);
    theirs.iterate(i);
    const auto& found = theirs.verdicts.download();
    if (std::memcmp(found.data(), expected.data(), expected.size() * sizeof(Verdict)) == 0) continue;
    return where + std::to_string(i) + " iterations: the CPU's verdicts are not those of the definition";
  }
  const auto [left, right] = std::pair(ours.state(), theirs.state());
  tally.add(theirs);
  if (const char* name = theirs.rewritten()) {
    return where + std::to_string(iterations) + " iterations: the CPU's " + name + " are not as if written anew";
  }
  for (size_t part = 0; part < left.size(); part++) {
    const auto& [name, bytes] = left[part];
    const auto& expected = right[part].second;
    for (size_t at = 0; at < bytes.size(); at++) {
      if (bytes[at] == expected[at]) continue;
      return where + std::to_string(iterations) + " iterations: " + name + " differ at byte " + std::to_string(at);
    }
  }
  return "";
}

void check_loops(const std::string& name, bool transposed, bool f16) {
  Tally tally;
  for (const PassShape shape : {PassShape{1, 1, 1},
                                {1, 1, 2},
                                {1, 1, 8},
                                {3, 1, 16},
                                {2, 2, 5},
                                {4, 8, 4},
                                {5, 3, 33},
                                {1, 2, 128},
                                {64, 1, 4},
                                {256, 1, 2},
                                {33, 2, 3}}) {
    if (quick && shape.lanes > 8) continue;
    for (uint64_t seed = 1; seed <= (quick ? 2u : 4u); seed++) {
      WorldOptions options;
      options.shape = shape;
      options.v_width = transposed ? 3 : 0;
      options.mask_f16 = f16;
      options.first_stream = static_cast<int32_t>(seed % 3);
      options.positions = seed != 3;
      if (seed == 4) options.end_share = 0;
      options.seed = seed * 1000 + static_cast<uint64_t>(tally.cases);
      const std::string failure = compare_loops(options, seed % 2 != 0 ? 12 : 1, tally);
      if (!failure.empty()) return report(name, failure);
    }
  }
  const auto count = [](int64_t value, const char* what) { return ", " + std::to_string(value) + what; };
  report(name + ": " + std::to_string(tally.cases) + " cases" + count(tally.iterations, " iterations of lanes") +
             count(tally.tokens, " tokens") + count(tally.rolled, " rolled forward") + count(tally.ended, " ended"),
         tally.complete() ? "" : "the lanes did too little");
}

/// Sampling's rule read off its text, one step after the other, without a thought of speed.
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

/// The CPU against the rule, the device against the CPU: lanes of different settings in one call, one of them greedy.
void check_sampling() {
  std::mt19937 random(11);
  int64_t cases = 0, greedy = 0;
  for (const int64_t vocab : {1, 3, 63, 64, 65, 1025, 4095, 32000}) {
    if (quick && vocab > 5000) continue;
    for (int round = 0; round < (quick ? 3 : 6); round++) {
      constexpr int64_t kBlock = 4, kCandidates = 2, kLanes = 6, kRows = kBlock * kCandidates * kLanes;
      const int64_t stride = vocab + round % 3;
      std::vector<float> logits(static_cast<size_t>(kRows * stride)), biases(static_cast<size_t>(vocab));
      const float spread = round % 2 != 0 ? 8.0f : 1.0f;
      for (int64_t r = 0; r < kRows; r++) {
        float* row = logits.data() + r * stride;
        fill(row, vocab, round < 2 ? 0 : static_cast<int>((r + round) % kKinds), random);
        for (int64_t i = 0; i < vocab; i++) row[i] *= spread;
      }
      for (auto& value : biases) value = random() % 4 == 0 ? -std::numeric_limits<float>::infinity() : 0.5f;
      std::vector<Sampling> samplings(kLanes);
      std::vector<LaneState> states(kLanes);
      for (size_t b = 0; b < kLanes; b++) {
        states[b].position = static_cast<int32_t>(random() % 5000);
        samplings[b] = {.temperature = b == 2 ? 0.0f : 0.2f + 0.4f * static_cast<float>(random() % 5),
                        .top_k = static_cast<int32_t>(b % 2 != 0 ? 1 + random() % 50 : 0),
                        .top_p = b >= 3 ? 0.05f + 0.09f * static_cast<float>(random() % 11) : 1.0f,
                        .min_p = b % 3 == 1 ? 0.02f * static_cast<float>(random() % 10) : 0.0f,
                        .seed = random() * 0x100000001ull};
      }
      std::vector<Token> found[2];
      for (int side = 0; side < 2; side++) {
        const auto device = side == 0 ? make_cpu_device() : make_device();
        DeviceArray<float> input(*device, logits), added(*device, biases);
        std::vector<const float*> table(kLanes, nullptr);
        table[1] = table[4] = added.data;
        DeviceArray<const float*> lanes_with_bias(*device, table);
        DeviceArray<Sampling> settings(*device, samplings);
        DeviceArray<LaneState> lanes(*device, states);
        DeviceArray<Token> output(*device, std::vector<Token>(kRows, -1));
        constexpr int64_t kRowsPerLane = kBlock * kCandidates;
        device->bias({.logits = input.data,
                      .rows = kRows,
                      .vocab = vocab,
                      .stride = stride,
                      .rows_per_lane = kRowsPerLane,
                      .biases = lanes_with_bias.data});
        device->choose({.logits = input.data,
                        .rows = kRows,
                        .vocab = vocab,
                        .stride = stride,
                        .choices = output.data,
                        .sampling = settings.data,
                        .rows_per_lane = kRowsPerLane,
                        .lanes = lanes.data,
                        .block = static_cast<int32_t>(kBlock)});
        device->wait();
        found[side] = output.download();
      }
      for (int64_t r = 0; r < kRows; r++) {
        const auto b = static_cast<size_t>(r / (kBlock * kCandidates));
        float* row = logits.data() + r * stride;
        for (int64_t i = 0; i < vocab && (b == 1 || b == 4); i++) row[i] += biases[static_cast<size_t>(i)];
        Token expected = -1;
        choose({.logits = row, .rows = 1, .vocab = vocab, .stride = vocab, .choices = &expected});
        if (samplings[b].temperature > 0) {
          const Token most = expected;
          const int64_t position = states[b].position + 1 + r % kBlock;
          expected = sampled_by_the_rule(row, vocab, samplings[b], position, most);
          greedy += expected == most ? 1 : 0;
        }
        cases++;
        const Token on_cpu = found[0][static_cast<size_t>(r)], on_device = found[1][static_cast<size_t>(r)];
        if (on_cpu == expected && on_device == expected) continue;
        return report("sampling", "vocabulary " + std::to_string(vocab) + ", round " + std::to_string(round) +
                                      ", row " + std::to_string(r) + ": expected " + std::to_string(expected) +
                                      " but received " + std::to_string(on_cpu) + " on the CPU, " +
                                      std::to_string(on_device) + " on the device");
      }
    }
  }
  report("sampling: " + std::to_string(cases) + " rows", greedy < cases * 3 / 4 ? "" : "hardly any noise");
}

int run(bool benches) {
  std::printf("device %s\n", make_device()->name());
  check_choose();
  check_sampling();
  check_planted();
  check_loops("loop, V in rows, mask f16", false, true);
  check_loops("loop, V transposed, mask f32", true, false);
  if (failures > 0) return 1;
  return benches ? run_device_bench() : 0;
}

}  // namespace

}  // namespace cllm

int main(int argc, char** argv) {
  bool benches = false;
  for (int i = 1; i < argc; i++) {
    if (std::string(argv[i]) == "--quick") cllm::quick = true;
    if (std::string(argv[i]) == "--bench") benches = true;
  }
  try {
    return cllm::run(benches);
  } catch (const std::exception& error) {
    std::printf("FAILED %s\n", error.what());
    return 1;
  }
}
