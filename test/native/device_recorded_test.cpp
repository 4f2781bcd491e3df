// Recorded iterations and loops: on the device as it records them, against the same iterations one by one on the CPU.
#include <memory>
#include <stdexcept>
#include <string>

#include "device_test.h"
#include "device_world.h"

namespace cllm {

namespace {

constexpr int64_t kVocab = 4;  // so few tokens that drafts often come true

/// A world whose choices change from iteration to iteration without the host: every iteration adds a lane's biases to
/// its logits once more. The sums are integers, which floats hold exactly.
struct MovingWorld {
  World world;
  DeviceArray<float> logits, values;
  DeviceArray<const float*> biases;

  MovingWorld(KernelDevice& device, const WorldOptions& options)
      : world(device, options),
        logits(device, integers(static_cast<size_t>(options.shape.rows() * kVocab), options.seed)),
        values(device, integers(static_cast<size_t>(options.shape.lanes * kVocab), options.seed + 1)),
        biases(device, std::vector<const float*>(static_cast<size_t>(options.shape.lanes))) {
    for (size_t b = 0; b < biases.host.size(); b++) biases.host[b] = values.data + b * static_cast<size_t>(kVocab);
    biases.upload();
  }

  void iterate() {
    const PassShape& shape = world.options.shape;
    const int64_t rows_per_lane = int64_t{shape.candidates} * shape.block;
    world.device.bias({logits.data, shape.rows(), kVocab, kVocab, rows_per_lane, biases.data});
    world.device.choose({.logits = logits.data,
                         .rows = shape.rows(),
                         .vocab = kVocab,
                         .stride = kVocab,
                         .choices = world.choices.data});
    world.iterate();
  }

  static std::vector<float> integers(size_t count, uint64_t seed) {
    std::mt19937 random(static_cast<uint32_t>(seed));
    std::vector<float> result(count);
    for (float& value : result) value = static_cast<float>(random() % 64);
    return result;
  }
};

/// Two passes an iteration, of lanes that are no neighbours, which share a loop.
struct TwoPasses {
  MovingWorld first, second;

  TwoPasses(KernelDevice& device, const WorldOptions& options, WorldOptions other)
      : first(device, options), second(device, other) {
    first.world.loop.lanes += second.world.loop.lanes;
    second.world.loop = first.world.loop;
  }
  void iterate() {
    first.iterate();
    second.iterate();
  }
  void set_limit(uint32_t limit) { *first.world.loop.limit = limit; }
  LoopState loop() { return first.world.loop_state.download()[0]; }
};

struct Found {
  int64_t loops = 0, ended_by_limit = 0, ended_by_lanes = 0;
};

/// An iteration of a pass has bias, choose and advance, then roll_forward for candidates and keep_state for states.
size_t nodes_of(const WorldOptions& options) {
  return 3 + (options.shape.candidates > 1 ? 1 : 0) + (options.states ? 1 : 0);
}

/// Runs up to `limit` iterations as the device records them, and the same on the CPU. Returns the difference, or "".
std::string compare_recorded(KernelDevice& device, const WorldOptions& options, const WorldOptions& other,
                             uint32_t limit, Found& counts) {
  const auto cpu = make_cpu_device();
  TwoPasses found(device, options, other), expected(*cpu, options, other);
  found.set_limit(limit);
  expected.set_limit(limit);
  found.iterate();  // the first iteration is run, not recorded, so that the device has all memory it needs
  expected.iterate();
  std::string reason;
  const auto recording = device.record([&] { found.iterate(); }, reason);
  if (recording == nullptr) return "the device recorded nothing: " + reason;
  const size_t nodes = nodes_of(options) + nodes_of(other);
  if (recording->nodes() != nodes) return "the recording has " + std::to_string(recording->nodes()) + " nodes";
  const bool is_loop = recording->kind() == Recorded::kLoop;
  uint32_t done = 1;
  for (int launch = 0; launch < (is_loop ? 1 : 3); launch++) {
    device.launch(*recording);
    do {
      expected.iterate();
      done++;
    } while (is_loop && expected.loop().goes_on != 0);
  }
  const std::string where = std::to_string(done) + " iterations, limit " + std::to_string(limit) + ": ";
  if (!device.idle()) device.wait();
  const LoopState loop = found.loop();
  if (loop.iteration != done) return where + "the device did " + std::to_string(loop.iteration);
  counts.loops += is_loop;
  counts.ended_by_limit += is_loop && done == limit;
  counts.ended_by_lanes += is_loop && done < limit;
  for (auto [ours, theirs] : {std::pair(&found.first, &expected.first), {&found.second, &expected.second}}) {
    const std::string difference = difference_of(ours->world.state(), theirs->world.state());
    if (!difference.empty()) return where + difference;
  }
  return "";
}

}  // namespace

void check_recorded(const std::string& name, const std::function<std::unique_ptr<KernelDevice>()>& make,
                    Recorded kind) {
  Found counts;
  int cases = 0;
  for (const PassShape shape : {PassShape{1, 1, 1}, {1, 1, 8}, {3, 1, 5}, {2, 2, 4}, {1, 4, 16}}) {
    if (quick && shape.lanes == 1 && shape.candidates == 1) continue;
    for (uint64_t seed = 1; seed <= (quick ? 1u : 3u); seed++) {
      WorldOptions options;
      options.shape = shape;
      options.vocab = kVocab;
      options.end_share = 0;
      options.max_budget = shape.lanes == 1 ? 400 : 12;
      options.iterations = 16;
      options.seed = 100 * seed + static_cast<uint64_t>(shape.rows());
      options.states = shape.candidates == 1;
      WorldOptions other = options;
      other.shape.lanes = 2;
      other.seed++;
      other.window = {.size = 20};
      other.window_cells = shape.candidates > 1 ? other.n_kv : other.window.size + shape.block;
      for (const uint32_t limit : {1u, 4u, 16u}) {
        if (quick && limit == 1) continue;
        const auto device = make();
        std::string failure = compare_recorded(*device, options, other, limit, counts);
        if (!failure.empty()) return report(name, "seed " + std::to_string(options.seed) + ", " + failure);
        // A failure inside of a recording ends the capture, and the device works on.
        std::string reason;
        const bool nothing = device->record([] { throw std::runtime_error("planted"); }, reason) == nullptr;
        if (!nothing || reason != "planted") return report(name, "a failed recording: " + reason);
        failure = compare_recorded(*device, options, other, limit, counts);
        if (!failure.empty()) return report(name, "after a failed recording: " + failure);
        cases += 2;
      }
    }
  }
  const bool complete = kind == Recorded::kLoop
                            ? counts.loops == cases && counts.ended_by_limit > 0 && counts.ended_by_lanes > 0
                            : counts.loops == 0;
  report(name + ": " + std::to_string(cases) + " cases, " + std::to_string(counts.ended_by_limit) +
             " ended by the limit, " + std::to_string(counts.ended_by_lanes) + " by their lanes",
         complete ? "" : "the loops did too little");
}

}  // namespace cllm
