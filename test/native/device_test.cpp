// The kernels of this build's own device against the CPU's, by ==: in the CUDA build those of cuda/ on the GPU,
// elsewhere the CPU's with themselves (which then tests this program). One line per check; exit code 1 on a failure.
//
//   cllm-device-test [--quick]        checks; --quick is for compute-sanitizer
//   cllm-device-test --bench          figures as JSON, after a check (device_bench.cpp)

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

/// What the loops did, so that nobody trusts a check of lanes that stood still.
struct Tally {
  int64_t cases = 0, tokens = 0, iterations = 0, rolled = 0, ended = 0;
  void add(const World& world) {
    const auto& [lanes, candidates, block] = world.options.shape;
    for (size_t at = 0; at < world.ring_host.size(); at += static_cast<size_t>(ring_words(block))) {
      Verdict verdict;
      std::memcpy(&verdict, &world.ring_host[at], sizeof(verdict));
      tokens += verdict.emitted;
      iterations += verdict.emitted > 0;
      rolled += verdict.winner > 0 && verdict.emitted > 1;
      ended += verdict.ended;
    }
    cases++;
  }
};

/// Several iterations of verify, roll_forward and advance on both devices; at the end all memory is equal.
std::string compare_loops(WorldOptions options, int iterations, Tally& tally) {
  const auto device = make_device(), reference = make_cpu_device();
  options.iterations = iterations;
  World ours(*device, options), theirs(*reference, options);
  std::mt19937 random(static_cast<uint32_t>(options.seed) + 9);
  for (int i = 0; i < iterations; i++) {
    const std::vector<Token> choices = ours.make_choices(theirs, random);
    ours.set_choices(choices);
    theirs.set_choices(choices);
    ours.iterate(i);
    theirs.iterate(i);
  }
  const auto [left, right] = std::pair(ours.state(), theirs.state());
  tally.add(theirs);
  for (size_t part = 0; part < left.size(); part++) {
    const auto& [name, bytes] = left[part];
    const auto& expected = right[part].second;
    for (size_t at = 0; at < bytes.size(); at++) {
      if (bytes[at] == expected[at]) continue;
      const auto& s = options.shape;
      return "B = " + std::to_string(s.lanes) + ", C = " + std::to_string(s.candidates) +
             ", n = " + std::to_string(s.block) + ", seed " + std::to_string(options.seed) + ", after " +
             std::to_string(iterations) + " iterations: " + name + " differ at byte " + std::to_string(at);
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
    if (quick && shape.rows() > 128) continue;
    for (uint64_t seed = 1; seed <= (quick ? 2u : 4u); seed++) {
      WorldOptions options;
      options.shape = shape;
      options.v_width = transposed ? 3 : 0;
      options.mask_f16 = f16;
      options.seed = seed * 1000 + static_cast<uint64_t>(tally.cases);
      const std::string failure = compare_loops(options, seed % 2 != 0 ? 12 : 1, tally);
      if (!failure.empty()) return report(name, failure);
    }
  }
  const auto count = [](int64_t value, const char* what) { return ", " + std::to_string(value) + what; };
  report(name + ": " + std::to_string(tally.cases) + " cases" + count(tally.iterations, " iterations of lanes") +
             count(tally.tokens, " tokens") + count(tally.rolled, " rolled forward") + count(tally.ended, " ended"),
         tally.rolled > 0 && tally.ended > 0 ? "" : "the lanes did too little");
}

int run(bool benches) {
  std::printf("device %s\n", make_device()->name());
  check_choose();
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
