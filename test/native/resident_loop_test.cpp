// Bursts on a stand-in for a GPU (stream_device.h), launched kernel by kernel, iteration by iteration, or as a loop
// that ends by itself: the same iterations as on the host runner, and no pass when the last lane has stopped.

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>

#include "decode/engine.h"
#include "resident_test.h"
#include "stream_device.h"

namespace cllm {

namespace {

/// Repeats every iteration on the host's lanes as it comes, and ends the burst or a lane at random.
class Repeater : public BurstObserver {
 public:
  Repeater(Side& host, std::map<int, LaneWork> lanes, int n, std::mt19937& random, std::string where)
      : host_(host), lanes_(std::move(lanes)), n_(n), random_(random), where_(std::move(where)) {
    if (random_() % 4 == 0) end_after_ = 1 + static_cast<int>(random_() % 5);
    if (random_() % 4 == 0) leave_after_ = 1 + static_cast<int>(random_() % 3);
  }

  bool took(const LaneOutcome& outcome) override {
    LaneWork& work = lanes_.at(outcome.index);
    const auto repeated = burst(host_, {&work, 1}, n_, 1, 0, false);
    const Iteration& iteration = repeated[static_cast<size_t>(outcome.index)].iterations.at(0);
    check(same(iteration, *outcome.iteration), where_ + ": same iteration");
    check(work.budget > 0, where_ + ": a lane without budget has stopped");
    work.budget -= iteration.emitted;
    taken++;
    lanes_in_iteration_++;
    if (iterations + 1 != leave_after_ || random_() % 2 == 0) return true;
    left.push_back(outcome.index);
    return false;
  }
  bool iterated() override {
    iterations++;
    idle_passes += lanes_in_iteration_ == 0 && left.empty();
    lanes_in_iteration_ = 0;
    return iterations != end_after_;
  }

  int iterations = 0, taken = 0, idle_passes = 0;
  std::vector<int> left;
  bool ended() const { return iterations >= end_after_; }

 private:
  Side& host_;
  std::map<int, LaneWork> lanes_;
  const int n_;
  std::mt19937& random_;
  const std::string where_;
  int end_after_ = 1 << 30, leave_after_ = 0, lanes_in_iteration_ = 0;
};

/// Sets a lane to the same new tokens on both sides.
void renew(Side& host, Side& resident, int lane, std::mt19937& random) {
  const auto tokens = random_tokens(random, 40 + 7 * lane, host.context.model().info().vocab_size);
  host.assign(lane, tokens);
  resident.assign(lane, tokens);
}

}  // namespace

void loops(const ModelPointer& model, ContextOptions options, Recorded kind, const std::string& name) {
  options.block_size = 8;
  Side host(model, options, false);
  Side resident(model, options, true, std::make_unique<StreamDevice>(kind));
  std::mt19937 random(3);
  for (int lane = 0; lane < options.lanes; lane++) renew(host, resident, lane, random);
  int idle_passes = 0, early = 0, with_leavers = 0, stopped = 0;
  std::map<Recorded, int> launched;
  for (int round = 0; round < 80 && failures <= 20; round++) {
    const std::string where = name + " round " + std::to_string(round);
    const int n = round % 3 == 2 ? 4 : 8;
    std::map<int, LaneWork> host_work;
    std::vector<LaneWork> work;
    for (int lane = 0; lane < options.lanes; lane++) {
      if (round % 8 >= 4 && lane == 1) continue;  // without it the lanes are no neighbours, and have two passes
      if (host.lanes[static_cast<size_t>(lane)].tokens().size() + 100 > static_cast<size_t>(options.context_size)) {
        renew(host, resident, lane, random);
      }
      resident.prefill(lane);  // what was lost when the lane left a burst
      const int64_t budget = round % 2 == 0 ? 60 : 1 + static_cast<int64_t>(random() % 8);
      host_work.emplace(lane, host.run(lane, 7, budget, false, false, {}, kDraftLookup2));
      work.push_back(resident.run(lane, 7, budget, false, false, {}, kDraftLookup2));
    }
    Repeater observer(host, std::move(host_work), n, random, where);
    constexpr int kIterations = 10;
    const auto ran = resident.runner->run(work, {static_cast<int32_t>(work.size()), 1, n}, kIterations, observer);
    if (!check(ran && *ran == PassResult::kOk, where + ": run")) return;
    const Recorded recorded = resident.resident->launched().recorded;
    launched[recorded]++;
    // A loop ends by itself. Otherwise the pass that is enqueued ahead is run in vain, and no second one.
    check(observer.idle_passes <= (recorded == Recorded::kLoop ? 0 : 1),
          where + ": " + std::to_string(observer.idle_passes) + " passes when the last lane had stopped");
    check(resident.resident->recordings() <= 8, where + ": few recordings are kept");
    early += observer.ended();
    with_leavers += !observer.left.empty();
    stopped += observer.iterations < kIterations && !observer.ended() && observer.left.empty();
    idle_passes += observer.idle_passes;
    check(observer.iterations > 0 && observer.iterations <= kIterations, where + ": iterations");
    for (const LaneWork& lane : work) {
      const auto at = static_cast<size_t>(lane.index);
      check(resident.lanes[at].tokens() == host.lanes[at].tokens(), where + ": same tokens");
    }
  }
  if (failures > 20) return;
  check(early > 5 && with_leavers > 3 && stopped > 3, name + ": the bursts ended in all ways");
  check(kind == Recorded::kNothing ? launched[kind] == 80 : launched[kind] > 40, name + ": launched as asked for");
  std::printf("ok %s: %d ended early, %d by their lanes, %d with lanes that left, %d idle passes\n", name.c_str(),
              early, stopped, with_leavers, idle_passes);
}

/// A recording that is refused, and passes that fail, leave a runner that works.
void failing_loops(const ModelPointer& model, ContextOptions options) {
  options.block_size = 8;
  auto created = std::make_unique<StreamDevice>(Recorded::kLoop);
  StreamDevice& device = *created;
  Side host(model, options, false);
  Side resident(model, options, true, std::move(created));
  std::mt19937 random(4);
  renew(host, resident, 0, random);
  int n = 8;  // a refused recording is not tried again, so each part has a block size of its own
  const auto run = [&](const std::string& where, PassResult expected) {
    if (host.lanes[0].tokens().size() > 400) renew(host, resident, 0, random);
    std::map<int, LaneWork> host_work{{0, host.run(0, 7, 30, false, false)}};
    const LaneWork work = resident.run(0, 7, 30, false, false);
    std::mt19937 calm(1);  // neither ends the burst nor its lane
    Repeater observer(host, std::move(host_work), n, calm, where);
    const auto ran = resident.runner->run({&work, 1}, {1, 1, n}, 6, observer);
    check(ran && *ran == expected, where + ": result");
    check(resident.lanes[0].tokens() == host.lanes[0].tokens(), where + ": same tokens");
  };
  const auto is_told = [&](const std::string& refusal, const std::string& where) {
    const ResidentRunner::Launched launched = resident.resident->launched();
    check(launched.recorded == Recorded::kNothing && launched.refusal == refusal, where + ": the refusal is told");
  };
  // A pass that cannot be captured fails while it is recorded.
  device.in_recorded_pass = [] { throw PassEnded(PassResult::kFailed, "not capturable"); };
  for (int i = 0; i < 3; i++) run("refused recording", PassResult::kOk);
  is_told("not capturable", "refused recording");
  device.in_recorded_pass = nullptr;
  n = 4;
  device.launch_failure = "out of memory";
  for (int i = 0; i < 20; i++) run("launch " + std::to_string(i) + " that fails", PassResult::kOk);
  is_told("out of memory", "failed launch");
  device.launch_failure.clear();
  n = 6;
  for (int i = 0; i < 20; i++) run("before the abort", PassResult::kOk);
  resident.context.request_abort();
  run("aborted", PassResult::kAborted);
  std::printf("ok refused recordings, aborted loops\n");
}

/// A burst of an Engine sends every iteration's text as it comes, and a command that arrives meanwhile ends it.
void engine_bursts(const ModelPointer& model, ContextOptions options) {
  options.block_size = 4;
  options.burst = 64;
  options.lanes = 2;
  Engine engine(model, options);
  std::mutex mutex;
  std::condition_variable changed;
  int answers = 0, batches = 0, largest_batch = 0, batches_at_post = 0, batches_until_second = 0;
  const auto generate = [&](uint32_t id, int64_t max_tokens) {
    Command command{.kind = Command::Kind::kGenerate, .id = id, .tokens = {1, 2, 3}};
    command.generate.block_size = 4;
    command.generate.max_tokens = max_tokens;
    command.generate.stream = true;
    command.generate.draft_source = kDraftRandom;
    engine.post(std::move(command));
  };
  // The sink runs on the decode thread, so the second request arrives between two iterations of a burst.
  engine.start([&](std::vector<Event>&& events) {
    const std::lock_guard lock(mutex);
    int chunks = 0;
    for (const Event& event : events) {
      chunks += event.type == Event::Type::kChunk && event.id == 1;
      if (event.type == Event::Type::kDone && event.id == 2) batches_until_second = batches - batches_at_post;
      answers += event.type == Event::Type::kDone || event.type == Event::Type::kError;
    }
    largest_batch = std::max(largest_batch, chunks);
    if (chunks > 0 && ++batches == 3) {
      batches_at_post = batches;
      generate(2, 3);
    }
    changed.notify_all();
  });
  generate(1, 150);
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return answers == 2; });
  check(batches > 20, "a burst sends its text in " + std::to_string(batches) + " batches");
  check(largest_batch <= 2, "a batch has the text of one iteration, and the last one what was held back");
  check(batches_until_second < 12,
        "a request waits for " + std::to_string(batches_until_second) + " batches of a burst that it should end");
  lock.unlock();
  engine.stop();
  std::printf("ok bursts of an engine: %d batches, %d while a request waits\n", batches, batches_until_second);
}

}  // namespace cllm
