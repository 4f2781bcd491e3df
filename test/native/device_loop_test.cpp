// The device loop: iterations of advance and roll_forward on the device and on the CPU.
#include <algorithm>
#include <cstring>
#include <string>

#include "device_test.h"
#include "device_world.h"

namespace cllm {

namespace {

/// Counts the events of the loops, so that a check fails in which lanes stood still or never met an edge case.
struct Tally {
  int64_t cases = 0, tokens = 0, iterations = 0, rolled = 0, ended = 0;
  int64_t idle = 0, all_accepted = 0, none_accepted = 0, out_of_budget = 0, ended_early = 0, went_on = 0;
  void add(const World& world) {
    const auto& [lanes, candidates, block] = world.options.shape;
    for (size_t at = 0; at < world.ring_host.size(); at += static_cast<size_t>(ring_words(block))) {
      const Verdict verdict = world.verdict_at(at);
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

/// The verdict that verify must give lane b, computed a second time from its definition.
Verdict defined_verdict(const World& world, const std::vector<Token>& choices, int32_t b) {
  const auto& [lanes, candidates, block] = world.options.shape;
  const LaneState& lane = world.lanes.host[static_cast<size_t>(b)];
  Verdict verdict;
  verdict.position = lane.position;
  if (!lane_runs(lane, block)) return verdict;
  const auto at = static_cast<std::ptrdiff_t>(b) * candidates * block;
  const auto own_block = world.tokens.host.begin() + at;
  std::vector<std::ptrdiff_t> accepted;
  for (int32_t c = 0; c < candidates; c++) {
    const auto draft = own_block + c * block + 1;
    accepted.push_back(std::mismatch(draft, draft + block - 1, choices.begin() + at + c * block).first - draft);
  }
  const auto longest = std::max_element(accepted.begin(), accepted.end());  // of equals the first
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
    verdict.stationary += stood[j] != 0 && own_block[j] == own_block[verdict.winner * block + j];
  }
  return verdict;
}

/// Runs several iterations of advance and roll_forward on both devices. At the end all their memory must be
/// equal. Returns the first difference, or "".
std::string compare_loops(WorldOptions options, int iterations, Tally& tally) {
  const auto device = make_device(), reference = make_cpu_device();
  options.iterations = iterations;
  World on_device(*device, options), on_cpu(*reference, options);
  const auto& s = options.shape;
  const std::string where = "B = " + std::to_string(s.lanes) + ", C = " + std::to_string(s.candidates) +
                            ", n = " + std::to_string(s.block) + ", seed " + std::to_string(options.seed) + ", after ";
  std::mt19937 random(static_cast<uint32_t>(options.seed) + 9);
  for (int i = 0; i < iterations; i++) {
    const std::vector<Token> choices = on_device.make_choices(on_cpu, random);
    on_device.set_choices(choices);
    on_cpu.set_choices(choices);
    std::vector<Verdict> expected;
    on_cpu.lanes.download();
    on_cpu.stood.download();
    for (int32_t b = 0; b < s.lanes; b++) expected.push_back(defined_verdict(on_cpu, choices, b));
    on_device.iterate();
    on_cpu.iterate();
    const auto& found = on_cpu.verdicts.download();
    if (std::memcmp(found.data(), expected.data(), expected.size() * sizeof(Verdict)) == 0) continue;
    return where + std::to_string(i) + " iterations: the CPU's verdicts are not those of the definition";
  }
  const auto device_state = on_device.state(), cpu_state = on_cpu.state();
  tally.add(on_cpu);
  if (const char* name = on_cpu.input_unlike_first()) {
    return where + std::to_string(iterations) + " iterations: the CPU's " + name +
           " are not those that a new lane would get";
  }
  const std::string difference = difference_of(device_state, cpu_state);
  return difference.empty() ? "" : where + std::to_string(iterations) + " iterations: " + difference;
}

/// Gives some layers a window, which may be smaller than a block. Without candidates their cells come round.
void add_window(WorldOptions& options, uint64_t seed) {
  options.window = {.size = static_cast<int32_t>(5 + 9 * seed), .chunked = seed == 3};
  options.window_cells = options.shape.candidates > 1 ? options.n_kv : options.window.size + options.shape.block;
}

}  // namespace

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
      options.position_parts = seed == 3 ? 0 : seed == 2 ? 4 : 1;
      if (seed == 4) options.end_share = 0;
      if (seed != 1) add_window(options, seed);
      options.states = shape.candidates == 1 && seed != 3;
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

}  // namespace cllm
