// Engine: forward passes, and the use of their results.
#include <algorithm>

#include "base/ggml_guard.h"
#include "base/limits.h"
#include "decode/engine.h"

namespace cllm {

namespace {

// The longest prefill pass, in milliseconds, while lanes decode, and while none does; a pass has at least
// kExactPrefillChunk tokens.
constexpr double kPauseOfLanes = 100, kPauseOfCommands = 400;
constexpr int kFirstPrefillPass = 64;  // tokens of a pass before the time of a token is known

// Passes that emit nothing beyond one token, in each answer: there are no drafts yet in the first, and about half of
// the last lies behind the answer's end.
constexpr double kPassesLost = 1.5;
constexpr double kLatestAnswerWeight = 0.2;

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

// Where passes of any length give the same rows, the length follows the time: lanes that decode wait for the pass, and
// a command does.
int Engine::prefill_pass_tokens() const {
  const int most = context_.options().prefill_chunk;
  if (!context_.any_chunk() || !chooses_prefill_) return most;
  if (prefill_token_milliseconds_ == 0) return std::min(most, kFirstPrefillPass);
  const bool lanes_decode = std::any_of(lanes_.begin(), lanes_.end(), [](const ServedLane& served) {
    return served.busy() && !served.lane.needs_prefill();
  });
  const double milliseconds = lanes_decode ? kPauseOfLanes : kPauseOfCommands;
  const double fitting = milliseconds / prefill_token_milliseconds_;
  return static_cast<int>(std::clamp<double>(fitting, std::min(most, kExactPrefillChunk), most));
}

double Engine::prefill_one_chunk() {
  for (size_t i = 0; i < lanes_.size(); i++) {
    ServedLane& served = lanes_[(next_prefill_ + i) % lanes_.size()];
    if (!served.busy() || !served.lane.needs_prefill()) continue;
    next_prefill_ = (next_prefill_ + i + 1) % lanes_.size();
    const auto chunk = served.lane.prefill_tokens(prefill_pass_tokens());
    // llama.cpp computes one token with other kernels than two or more. So a lone token gets a dummy behind it, and
    // every KV row is made by the same arithmetic. The dummy's row is trimmed before the next pass.
    const Token padded[2] = {chunk[0], chunk[0]};
    const bool pad = chunk.size() == 1 && context_.max_rollback() != 0;
    const LaneTokens pass{served.index, served.lane.written(), pad ? std::span<const Token>(padded) : chunk};
    const PassResult result = context_.decode({&pass, 1}, false);
    const double milliseconds = context_.pass_milliseconds();
    if (result == PassResult::kFailed) fail(served, take_last_log_error());
    if (result != PassResult::kOk) return milliseconds;
    served.lane.prefilled(static_cast<int>(chunk.size()));
    if (chunk.size() >= kFirstPrefillPass / 2) prefill_token_milliseconds_ = milliseconds / chunk.size();
    if (served.generation) served.generation->stats.prefill_milliseconds += milliseconds;
    return milliseconds;
  }
  return 0;
}

void Engine::finish_prefill(ServedLane& served) {
  Event event{.type = Event::Type::kPrefilled, .id = served.operation->id};
  event.reused = served.reused;
  event.prefilled = served.lane.written() - served.reused;
  events_.push_back(std::move(event));
  served.operation.reset();
}

void Engine::iterate_ready(double prefill_milliseconds) {
  std::vector<ServedLane*> ready;
  for (ServedLane& served : lanes_) {
    if (!served.busy() || served.lane.needs_prefill()) continue;
    if (served.operation && served.operation->kind == Command::Kind::kPrefill) {
      finish_prefill(served);
    } else {
      ready.push_back(&served);
    }
  }
  choose_shape(ready);
  const auto shape = [this](const ServedLane* served) {
    const PassShape lane_shape = shape_of(*served);
    return std::pair(lane_shape.block, lane_shape.candidates);
  };
  std::stable_sort(ready.begin(), ready.end(), [&](ServedLane* a, ServedLane* b) { return shape(a) < shape(b); });
  std::vector<ServedLane*> group;
  for (size_t i = 0; i < ready.size(); i++) {
    group.push_back(ready[i]);
    if (i + 1 < ready.size() && shape(ready[i + 1]) == shape(ready[i])) continue;
    iterate_group(group, prefill_milliseconds);
    group.clear();
  }
}

// Chooses one shape for all lanes that leave it to the engine, because they share a pass.
void Engine::choose_shape(const std::vector<ServedLane*>& ready) {
  std::vector<const ServedLane*> auto_lanes;
  for (const ServedLane* served : ready) {
    if (served->generation && served->generation->params.block_size == 0) auto_lanes.push_back(served);
  }
  if (auto_lanes.empty()) return;
  const bool rules = std::any_of(auto_lanes.begin(), auto_lanes.end(),
                                 [](const ServedLane* served) { return served->rules() != nullptr; });
  const auto fits = [&](const PassShape& shape) {
    return shape.block <= context_.options().block_size &&
           (shape.candidates == 1 || (resident_ && !rules && resident_->fits(shape)));
  };
  auto_shape_ = chooser_.choose(static_cast<int>(auto_lanes.size()), fits, [&](const PassShape& shape) {
    double sum = 0;
    for (const ServedLane* served : auto_lanes) {
      const double within = served->lane.expected(shape.block, shape.candidates);
      const double length = std::max(answer_tokens_, static_cast<double>(served->generation->stats.emitted_tokens));
      sum += length > 0 ? within / (1 + kPassesLost * (within - 1) / length) : within;
    }
    return sum;
  });
  chosen_.store(static_cast<uint32_t>(auto_shape_.candidates << 16 | auto_shape_.block), std::memory_order_relaxed);
}

// At the end of the context a block is shorter, so that it needs no row beyond contextSize. A block of 2 or more keeps
// at least 2 tokens, because the last token that fits is emitted without a row of its own. A request that names a block
// size has as many candidates as a part of a pass has room for.
PassShape Engine::shape_of(const ServedLane& served) const {
  const int requested = served.params().block_size;
  const int room = context_.options().context_size - served.lane.position();
  const int n = std::min(requested == 0 ? auto_shape_.block : requested, room);
  int candidates =
      requested == 0 ? auto_shape_.candidates : std::min(this->candidates(), std::max(1, kMaxPartTokens / n));
  if (n == 1 || served.rules() != nullptr) candidates = 1;
  return {1, candidates, n};
}

LaneWork Engine::work_of(ServedLane& served, const PassShape& shape) const {
  const int64_t room = context_.options().context_size - static_cast<int64_t>(served.lane.tokens().size());
  const DecodeParams& params = served.params();
  // The other candidates are lookups, so the lane's own block drafts its choices.
  const DraftMode mode = shape.candidates > 1 ? kDraftChoices : served.lane.better_mode(shape.block);
  return {.index = served.index,
          .lane = &served.lane,
          .seed = params.seed,
          .budget = served.generation ? served.generation->budget : room,
          .stop_at_end = served.generation.has_value(),
          .wants_logits = served.operation ? served.operation->iterate.logits : served.generation->params.logprobs >= 0,
          .choosing = params.choosing,
          .draft_mode = params.draft_source.value_or(mode),
          .rules = served.rules()};
}

/// Uses the results of a group's iterations as they come.
class Engine::GroupObserver : public BurstObserver {
 public:
  GroupObserver(Engine& engine, double prefill_milliseconds)
      : engine_(engine), since_(engine.tick_started_), prefill_milliseconds_(prefill_milliseconds) {}

  bool took(const LaneOutcome& outcome) override {
    ServedLane& served = engine_.lanes_[static_cast<size_t>(outcome.index)];
    engine_.finish_iteration(served, outcome, milliseconds_since(since_) - prefill_milliseconds_);
    taken_ = true;
    return served.busy();
  }
  bool iterated() override {
    iterations++;
    if (taken_) {
      engine_.iterated_until_ = since_ = std::chrono::steady_clock::now();
      prefill_milliseconds_ = 0;
      taken_ = false;
    }
    if (engine_.someone_waits()) return false;
    engine_.send_events();
    return true;
  }

  int iterations = 0;

 private:
  Engine& engine_;
  std::chrono::steady_clock::time_point since_;  // when the iteration began, as its lanes see it
  double prefill_milliseconds_;                  // of these, spent on a prompt
  bool taken_ = false;                           // a lane has done this iteration
};

void Engine::iterate_group(std::vector<ServedLane*>& group, double prefill_milliseconds) {
  const auto started = std::chrono::steady_clock::now();
  PassShape shape = shape_of(*group[0]);
  shape.lanes = static_cast<int32_t>(group.size());
  std::vector<LaneWork> work;
  bool sequences = false, rules = false;
  for (ServedLane* served : group) {
    work.push_back(work_of(*served, shape));
    sequences = sequences || served->operation;
    rules = rules || served->rules() != nullptr;
  }
  GroupObserver observer(*this, prefill_milliseconds);
  // Small blocks use the resident runner where that is possible, all others the host runner.
  std::optional<PassResult> result;
  if (resident_ && !rules && resident_->fits(shape)) {
    // iterate() of a sequence asks for exactly one iteration.
    result = resident_->run(work, shape, sequences || someone_waits() ? 1 : context_.options().burst, observer);
  }
  if (!result) {
    shape.candidates = 1;
    result = host_.run(work, shape, 1, observer);
  }
  if (*result == PassResult::kFailed) {
    const std::string reason = take_last_log_error();
    for (ServedLane* served : group) {
      if (served->busy()) fail(*served, reason);
    }
  }
  if (*result != PassResult::kOk) return;
  chooser_.observe(shape, milliseconds_since(started) / std::max(1, observer.iterations));
}

// Whether a burst should end so that the thread can turn to others: a command has come, a request waits for a lane, or
// a prompt for its next chunk.
bool Engine::someone_waits() {
  const auto waits = [](const ServedLane& served) {
    return served.busy() ? served.lane.needs_prefill() : !served.queue.empty();
  };
  const bool has_free_lane =
      std::any_of(lanes_.begin(), lanes_.end(), [](const ServedLane& served) { return served.free(); });
  if (std::any_of(lanes_.begin(), lanes_.end(), waits) || (has_free_lane && !waiting_.empty())) return true;
  const std::lock_guard lock(mutex_);
  return stopping_ || !inbox_.empty();
}

void Engine::finish_iteration(ServedLane& served, const LaneOutcome& outcome, double milliseconds) {
  const Iteration& iteration = *outcome.iteration;
  if (served.operation) {
    Event event{.type = Event::Type::kIteration, .id = served.operation->id};
    event.iteration = iteration;
    event.forward_milliseconds = outcome.forward_milliseconds;
    if (served.operation->iterate.logits && outcome.logits != nullptr) {
      const size_t count = iteration.block.size() * static_cast<size_t>(context_.model().info().vocab_size);
      event.logits.assign(outcome.logits, outcome.logits + count);
    }
    events_.push_back(std::move(event));
    served.operation.reset();
    return;
  }
  Generation& generation = *served.generation;
  generation.stats.decode_milliseconds += milliseconds;
  generation.stats.forward_milliseconds += outcome.forward_milliseconds;
  const TokenRules* rules = generation.params.rules.get();
  const bool failed = rules != nullptr && !rules->failure().empty();
  const int taken = generation.accept(iteration, outcome.logits, failed ? rules->before_failure() : iteration.emitted);
  if (failed && !generation.finished()) return fail(served, rules->failure());
  if (taken < iteration.emitted) served.lane.rollback(iteration.position + 1 + taken);
  if (generation.finished()) return finish_generation(served);
  if (!generation.params.stream) return;
  Event chunk = generation.take_chunk();
  if (!chunk.text.empty()) events_.push_back(std::move(chunk));
}

void Engine::finish_generation(ServedLane& served) {
  if (served.generation->params.stream) {
    Event chunk = served.generation->take_chunk();
    if (!chunk.text.empty() || !chunk.tokens.empty()) events_.push_back(std::move(chunk));
  }
  const auto length = static_cast<double>(served.generation->stats.emitted_tokens);
  answer_tokens_ += (answer_tokens_ == 0 ? 1 : kLatestAnswerWeight) * (length - answer_tokens_);
  events_.push_back(served.generation->done());
  served.generation.reset();
}

}  // namespace cllm
