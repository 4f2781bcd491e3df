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
  // Of layers with a window: rows left it, a chunk began, the cells came round, scratch rows left it.
  int64_t left_window = 0, began_chunk = 0, came_round = 0, scratch_left = 0;
  // Of recurrent states: lanes that stopped, and iterations over lanes that had stopped before.
  int64_t stopped = 0, stood_still = 0;

  void add(const World& world) {
    const auto& [lanes, candidates, block] = world.options.shape;
    for (int32_t b = 0; b < lanes; b++) {
      std::vector<Verdict> verdicts;
      for (int i = 0; i < world.options.iterations; i++) {
        verdicts.push_back(world.verdict_at((static_cast<size_t>(i) * lanes + b) * ring_words(block)));
      }
      const bool goes_on = lane_runs(world.lanes.host[static_cast<size_t>(b)], block);
      went_on += goes_on;
      for (size_t i = 0; i < verdicts.size(); i++) {
        add(verdicts[i], block);
        const bool runs = i + 1 < verdicts.size() ? verdicts[i + 1].emitted > 0 : goes_on;
        if (runs) add_window(world.options, verdicts[i]);
        if (!world.options.states) continue;
        stopped += verdicts[i].emitted > 0 && !runs;
        stood_still += i > 0 && verdicts[i - 1].emitted > 0 && verdicts[i].emitted == 0;
      }
    }
    cases++;
  }
  bool complete() const {
    const auto events = {rolled,  ended,       idle,        all_accepted, none_accepted, out_of_budget, ended_early,
                         went_on, left_window, began_chunk, came_round,   scratch_left,  stopped,       stood_still};
    return std::find(events.begin(), events.end(), 0) == events.end();
  }

 private:
  void add(const Verdict& verdict, int32_t block) {
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
  void add_window(const WorldOptions& options, const Verdict& verdict) {
    const Window& window = options.window;
    if (window.size == 0) return;
    const int32_t p = verdict.position, next = p + verdict.emitted, last = options.shape.block - 1;
    const bool left = window.first_seen(next) > window.first_seen(p);
    (window.chunked != 0 ? began_chunk : left_window) += left;
    came_round += (next + last) / options.window_cells > (p + last) / options.window_cells;
    scratch_left += options.shape.candidates > 1 && window.first_seen(next + last) > next;
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

/// Whether the row at a position sees that of another, from the definition of a window.
bool sees(const Window& window, int32_t position, int32_t other) {
  if (other > position) return false;
  if (window.size == 0) return true;
  return window.chunked != 0 ? other / window.size == position / window.size : position - other < window.size;
}

/// Whether the masks of all lanes that run are those of the definition: a row sees the confirmed tokens in their cells,
/// and the tokens of its own block in theirs.
bool masks_as_defined(const World& world, const AttentionArrays& arrays) {
  const auto& [lanes, candidates, block] = world.options.shape;
  const auto& [sizes, k_rows, v_rows, mask] = arrays;
  if (sizes.n_kv == 0) return true;
  for (int32_t row = 0; row < world.options.shape.rows(); row++) {
    const int32_t b = row / (candidates * block), c = row / block % candidates, j = row % block;
    const LaneState& lane = world.lanes.host[static_cast<size_t>(b)];
    if (!lane_runs(lane, block)) continue;
    const int32_t position = lane.position + j;
    std::vector<uint32_t> expected(static_cast<size_t>(sizes.n_kv), sizes.mask_f16 ? 0xfc00 : 0xff800000);
    const auto show = [&](int32_t other, int64_t cell) {
      if (sees(sizes.window, position, other)) expected[static_cast<size_t>(cell)] = 0;
    };
    for (int32_t other = 0; other < lane.position; other++) show(other, other % sizes.kv_size);
    for (int32_t i = 0; i < block; i++) {
      const int32_t other = lane.position + i;
      show(other, c == 0 ? other % sizes.kv_size : world.scratch.first + (c - 1) * block + i);
    }
    const size_t bytes = sizes.mask_f16 ? 2 : 4;
    for (size_t cell = 0; cell < expected.size(); cell++) {
      const char* found = mask.host.data() + (row * expected.size() + cell) * bytes;
      if (std::memcmp(found, &expected[cell], bytes) != 0) return false;
    }
  }
  return true;
}

/// Runs several iterations of advance and what follows it on both devices. At the end all their memory must be
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
  if (!masks_as_defined(on_cpu, on_cpu.full) || !masks_as_defined(on_cpu, on_cpu.windowed)) {
    return where + std::to_string(iterations) + " iterations: the CPU's masks are not those of the definition";
  }
  if (const char* name = on_cpu.input_unlike_first()) {
    return where + std::to_string(iterations) + " iterations: the CPU's " + name +
           " are not those that a new lane would get";
  }
  const std::string difference = difference_of(device_state, cpu_state);
  return difference.empty() ? "" : where + std::to_string(iterations) + " iterations: " + difference;
}

/// Gives some layers a window, which may be smaller than a block. Without candidates their cells come round.
void add_window(WorldOptions& options, uint64_t seed) {
  options.window = {.size = static_cast<int32_t>(9 * seed - 4), .chunked = seed % 2 == 0};
  options.window_cells = options.shape.candidates > 1 ? options.n_kv : options.window.size + options.shape.block;
}

}  // namespace

void check_loops(const std::string& name, bool transposed, bool f16) {
  Tally tally;
  int shapes = 0;
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
    shapes++;
    if (quick && shape.lanes > 8) continue;
    for (uint64_t seed = 1; seed <= 4; seed++) {
      if (quick && (shapes % 2 == 0) != (seed > 2)) continue;
      WorldOptions options;
      options.shape = shape;
      options.v_width = transposed ? 3 : 0;
      options.mask_f16 = f16;
      options.first_stream = static_cast<int32_t>(seed % 3);
      options.position_parts = seed == 3 ? 0 : seed == 2 ? 4 : 1;
      if (seed == 4) options.end_share = 0;
      if (seed != 3) add_window(options, seed);
      options.states = shape.candidates == 1 && seed != 4;
      options.spare_planes = static_cast<int32_t>(seed);
      options.seed = seed * 1000 + static_cast<uint64_t>(tally.cases);
      const std::string failure = compare_loops(options, seed != 2 ? 12 : 1, tally);
      if (!failure.empty()) return report(name, failure);
    }
  }
  const auto count = [](int64_t value, const char* what) { return ", " + std::to_string(value) + what; };
  report(name + ": " + std::to_string(tally.cases) + " cases" + count(tally.iterations, " iterations of lanes") +
             count(tally.tokens, " tokens") + count(tally.rolled, " rolled forward") + count(tally.ended, " ended"),
         tally.complete() ? "" : "the lanes did too little");
}

}  // namespace cllm
