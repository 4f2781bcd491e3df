// Bursts of lanes that come and go, on the resident runner and, one iteration at a time, on the host runner.

#include <algorithm>
#include <cmath>

#include "resident_test.h"

namespace cllm {

namespace {

class Fuzz {
 public:
  Fuzz(const ModelPointer& model, const ContextOptions& options, unsigned seed)
      : model_(model),
        options_(options),
        name_("fuzz " + std::to_string(seed)),
        random_(seed),
        host_(model, options, false),
        resident_(model, options, true),
        seeds_(static_cast<size_t>(options.lanes), 1),
        choosings_(static_cast<size_t>(options.lanes)) {
    for (int lane = 0; lane < options.lanes; lane++) restart(lane);
  }

  /// Returns false where the two sides have come to different iterations.
  bool run_round(int round) {
    const int n = pick(2, 16);
    const int count = pick(1, 8);
    const bool stop = pick(0, 1) == 1;
    std::vector<LaneWork> host_runs, resident_runs;
    for (int lane = 0; lane < options_.lanes; lane++) {
      disturb(lane, n);
      host_.prefill(lane);
      resident_.prefill(lane);
      if (pick(0, 3) == 0) continue;
      const auto at = static_cast<size_t>(lane);
      const int64_t room = options_.context_size - static_cast<int64_t>(host_.lanes[at].tokens().size());
      if (static_cast<int64_t>(n) > room + 1) continue;
      const int64_t budget = std::min<int64_t>(room, pick(1, 40));
      // Modes change from burst to burst, as a decoder's do.
      const auto mode = pick(0, 3) == 0 ? static_cast<DraftMode>(pick(0, 4)) : host_.lanes[at].better_mode(n);
      check(mode == kDraftRandom || host_.lanes[at].better_mode(n) == resident_.lanes[at].better_mode(n),
            name_ + ": both sides prefer the same drafts");
      host_runs.push_back(host_.run(lane, seeds_[at], budget, stop, false, choosings_[at], mode));
      resident_runs.push_back(resident_.run(lane, seeds_[at], budget, stop, false, choosings_[at], mode));
    }
    if (host_runs.empty()) return true;
    const auto reported = burst(resident_, resident_runs, n, count, model_->info().vocab_size, false);
    for (LaneWork& run : host_runs) {
      const std::string where = name_ + " round " + std::to_string(round) + " lane " + std::to_string(run.index);
      if (!repeat_on_host(run, n, reported[static_cast<size_t>(run.index)].iterations, where)) return false;
    }
    return true;
  }

 private:
  int pick(int lowest, int highest) {
    return lowest + static_cast<int>(random_() % static_cast<unsigned>(highest - lowest + 1));
  }

  /// Tokens of a lane, at least: the resident runner leaves the first pass over a recurrent state to the host runner.
  int shortest() { return host_.context.states() != nullptr ? 2 : 1; }

  void restart(int lane) {
    const int64_t vocab = model_->info().vocab_size;
    const auto prompt = random_tokens(random_, pick(shortest(), 60), vocab);
    host_.assign(lane, prompt);
    resident_.assign(lane, prompt);
    seeds_[static_cast<size_t>(lane)] = random_();
    Choosing& choosing = choosings_[static_cast<size_t>(lane)];
    choosing = {};
    if (pick(0, 1) == 1) choosing.sampling = {.temperature = 0.8f, .top_k = pick(0, 1) * 20, .seed = random_()};
    if (pick(0, 2) != 0) return;
    auto bias = std::make_shared<std::vector<float>>(static_cast<size_t>(vocab), 0.0f);
    for (float& value : *bias) value = pick(0, 3) == 0 ? -INFINITY : 0.01f * static_cast<float>(pick(-50, 50));
    choosing.bias = std::move(bias);
  }

  /// Restarts the lane, rolls it back or sets its draft, at times.
  void disturb(int lane, int n) {
    const int size = static_cast<int>(host_.lanes[static_cast<size_t>(lane)].tokens().size());
    if (size - 1 + n > options_.context_size || pick(0, 9) == 0) {
      restart(lane);  // prefill while others stay resident
    } else if (pick(0, 9) == 0) {
      const int keep = pick(shortest(), size);
      for (Side* side : {&host_, &resident_}) {
        Lane& rolled_back = side->lanes[static_cast<size_t>(lane)];
        rolled_back.rollback(keep);
        if (pick(0, 1) == 0 || side->context.states() != nullptr)
          rolled_back.lost_rows(side->context.trim(lane, rolled_back.written()));
      }
    } else if (pick(0, 9) == 0) {
      const auto draft = random_tokens(random_, n - 1, model_->info().vocab_size);
      for (Side* side : {&host_, &resident_}) side->lanes[static_cast<size_t>(lane)].set_draft(draft);
    }
  }

  /// Runs as many iterations of one lane on the host as the burst did. Returns false where one of them differs.
  bool repeat_on_host(LaneWork& run, int n, const std::vector<Iteration>& reported, const std::string& where) {
    const uint8_t* ends = model_->end_of_generation().data();
    check(!reported.empty(), where + ": at least one iteration");
    for (size_t i = 0; i < reported.size(); i++) {
      const auto repeated = burst(host_, {&run, 1}, n, 1, model_->info().vocab_size, false);
      const Iteration& iteration = repeated[static_cast<size_t>(run.index)].iterations.at(0);
      if (!check(same(iteration, reported[i]), where + ": same iteration")) return false;
      run.budget -= iteration.emitted;
      const Token last = iteration.choices[static_cast<size_t>(iteration.emitted - 1)];
      const bool over = run.budget == 0 || (run.stop_at_end && ends[last] != 0);
      check(!over || i + 1 == reported.size(), where + ": nothing after the end");
    }
    const auto at = static_cast<size_t>(run.index);
    check(resident_.lanes[at].tokens() == host_.lanes[at].tokens(), where + ": same tokens");
    return true;
  }

  const ModelPointer model_;
  const ContextOptions options_;
  const std::string name_;
  std::mt19937 random_;
  Side host_, resident_;
  std::vector<uint64_t> seeds_;
  std::vector<Choosing> choosings_;
};

}  // namespace

void fuzz(const ModelPointer& model, ContextOptions options, unsigned seed, int rounds) {
  options.block_size = 16;
  Fuzz fuzz(model, options, seed);
  for (int round = 0; round < rounds; round++) {
    if (!fuzz.run_round(round) || failures > 20) return;
  }
}

}  // namespace cllm
