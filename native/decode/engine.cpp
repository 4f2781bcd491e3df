#include "decode/engine.h"

#include <algorithm>

#include "base/error.h"
#include "base/ggml_guard.h"

namespace cllm {

namespace {

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Engine::Engine(std::shared_ptr<const Model> model, const ContextOptions& options)
    : context_(std::move(model), options), host_(context_) {
  if (options.runner == "host") {
    no_resident_ = "it was asked for";
  } else {
    resident_ = ResidentRunner::create(context_, no_resident_);
    if (!resident_ && options.runner == "resident") {
      throw Error("CLLM_NOT_SUPPORTED", "Expected a model for the resident runner but " +
                                            context_.model().info().description + " cannot use it: " + no_resident_);
    }
  }
  slots_.resize(static_cast<size_t>(options.lanes));
  for (size_t i = 0; i < slots_.size(); i++) {
    slots_[i].index = static_cast<int>(i);
    empty(slots_[i]);
  }
}

Engine::~Engine() { stop(); }

void Engine::start(Sink sink) {
  sink_ = std::move(sink);
  thread_ = std::thread([this] { run(); });
}

void Engine::post(Command command) {
  {
    std::lock_guard lock(mutex_);
    inbox_.push_back(std::move(command));
  }
  wake_.notify_one();
}

void Engine::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  context_.request_abort();
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Engine::run() {
  bool working = false;
  while (true) {
    std::vector<Command> commands;
    {
      std::unique_lock lock(mutex_);
      if (!working) {
        wake_.wait(lock, [this] { return stopping_ || !inbox_.empty(); });
        tick_started_ = std::chrono::steady_clock::now();
      }
      if (stopping_) break;
      commands.swap(inbox_);
    }
    try {
      for (auto& command : commands) dispatch(std::move(command));
      working = tick();
    } catch (const std::exception& failure) {
      // Memory, most likely: an exception that left the thread would end the process.
      for (Slot& slot : slots_) {
        if (slot.busy()) fail(slot, failure.what());
      }
      working = true;
    }
    if (!events_.empty()) {
      sink_(std::move(events_));
      events_.clear();
    }
  }
  finish_all();
  if (!events_.empty()) sink_(std::move(events_));
}

bool Engine::tick() {
  for (Slot& slot : slots_) start_queued(slot);
  admit();
  const double prefill = prefill_one_chunk();
  iterate_ready(prefill);
  tick_started_ = std::chrono::steady_clock::now();
  return std::any_of(slots_.begin(), slots_.end(),
                     [](const Slot& slot) { return slot.busy() || !slot.queue.empty(); }) ||
         !waiting_.empty();
}

void Engine::dispatch(Command&& command) {
  using Kind = Command::Kind;
  if (command.kind == Kind::kAbort) return abort(command.id);
  if (command.kind == Kind::kGenerate && command.sequence == 0) {
    waiting_.push_back(std::move(command));
    return;
  }
  if (command.kind == Kind::kOpenSequence) {
    Slot* slot = free_slot({});
    if (slot == nullptr) {
      return error(command.id, "CLLM_NO_FREE_LANE",
                   "Expected a free lane for a sequence but all " + std::to_string(slots_.size()) + " are in use");
    }
    slot->sequence = next_sequence_++;
    empty(*slot);
    context_.trim(slot->index, 0);
    events_.push_back({.type = Event::Type::kSequence, .id = command.id, .sequence = slot->sequence});
    return;
  }
  Slot* slot = slot_of(command.sequence);
  if (slot == nullptr) return error(command.id, "CLLM_DISPOSED", "The sequence is disposed");
  slot->queue.push_back(std::move(command));
}

void Engine::abort(uint32_t id) {
  const auto abort_queued = [&](std::deque<Command>& queue) {
    const auto at = std::find_if(queue.begin(), queue.end(), [&](const Command& c) { return c.id == id; });
    if (at == queue.end()) return;
    events_.push_back({.type = Event::Type::kDone, .id = id, .reason = "abort"});
    queue.erase(at);
  };
  abort_queued(waiting_);
  for (Slot& slot : slots_) {
    abort_queued(slot.queue);
    if (slot.generation && slot.generation->id == id) {
      slot.generation->finish("abort");
      finish_generation(slot);
    }
  }
}

void Engine::admit() {
  while (!waiting_.empty()) {
    Slot* slot = free_slot(waiting_.front().tokens);
    if (slot == nullptr) break;
    Command command = std::move(waiting_.front());
    waiting_.pop_front();
    start_generation(*slot, std::move(command));
  }
  if (!all_lanes_are_sequences()) return;
  // Waiting would be for ever as long as the sequences are kept: say so instead.
  for (const Command& command : waiting_) {
    error(command.id, "CLLM_NO_FREE_LANE",
          "Expected a lane for generate() but all " + std::to_string(slots_.size()) + " are held by sequences");
  }
  waiting_.clear();
}

void Engine::start_queued(Slot& slot) {
  using Kind = Command::Kind;
  while (!slot.busy() && !slot.queue.empty()) {
    Command command = std::move(slot.queue.front());
    slot.queue.pop_front();
    const uint32_t id = command.id;
    switch (command.kind) {
      case Kind::kGenerate: start_generation(slot, std::move(command)); break;
      case Kind::kPrefill: start_prefill(slot, std::move(command)); break;
      case Kind::kIterate: start_iterate(slot, std::move(command)); break;
      case Kind::kFork: fork(slot, id); break;
      case Kind::kRollback: {
        const int size = static_cast<int>(slot.lane.tokens().size());
        slot.lane.rollback(std::clamp(command.position, 0, size));
        slot.lane.lost_rows(context_.trim(slot.index, slot.lane.written()));
        events_.push_back({.type = Event::Type::kOk, .id = id});
        break;
      }
      case Kind::kCloseSequence:
        slot.sequence = 0;
        events_.push_back({.type = Event::Type::kOk, .id = id});
        for (const Command& late : slot.queue) error(late.id, "CLLM_DISPOSED", "The sequence is disposed");
        slot.queue.clear();
        break;
      default: break;
    }
  }
}

void Engine::start_generation(Slot& slot, Command&& command) {
  const int64_t room = context_.options().context_size - static_cast<int64_t>(command.tokens.size());
  if (room < 1) {
    return error(command.id, "CLLM_CONTEXT_OVERFLOW",
                 "Expected a prompt of less than " + std::to_string(context_.options().context_size) +
                     " tokens (contextSize) but received " + std::to_string(command.tokens.size()));
  }
  slot.generation.emplace(command, context_.model(), std::min(command.generate.max_tokens, room));
  assign(slot, std::move(command.tokens));
  slot.generation->stats.cached_tokens = slot.lane.written();
}

void Engine::start_prefill(Slot& slot, Command&& command) {
  if (static_cast<int64_t>(command.tokens.size()) > context_.options().context_size) {
    return error(command.id, "CLLM_CONTEXT_OVERFLOW",
                 "Expected at most " + std::to_string(context_.options().context_size) +
                     " tokens (contextSize) but received " + std::to_string(command.tokens.size()));
  }
  assign(slot, std::move(command.tokens));
  slot.reused = slot.lane.written();
  slot.operation = std::move(command);
}

void Engine::start_iterate(Slot& slot, Command&& command) {
  const auto size = static_cast<int64_t>(slot.lane.tokens().size());
  if (size == 0) return error(command.id, "CLLM_NOT_SUPPORTED", "Expected a prefilled sequence but it holds no tokens");
  if (size >= context_.options().context_size) {
    return error(command.id, "CLLM_CONTEXT_OVERFLOW",
                 "The sequence's context is full (" + std::to_string(size) + " tokens): roll back first");
  }
  if (command.iterate.draft) slot.lane.set_draft(*command.iterate.draft);
  slot.operation = std::move(command);
}

void Engine::fork(Slot& from, uint32_t id) {
  Slot* to = free_slot({});
  if (to == nullptr) {
    return error(id, "CLLM_NO_FREE_LANE",
                 "Expected a free lane for a fork but all " + std::to_string(slots_.size()) + " are in use");
  }
  to->sequence = next_sequence_++;
  to->lane = from.lane;
  context_.copy(from.index, to->index);
  to->lane.lost_rows(context_.rows(to->index));
  Event event{.type = Event::Type::kSequence, .id = id, .sequence = to->sequence};
  event.tokens = to->lane.tokens();
  events_.push_back(std::move(event));
}

void Engine::empty(Slot& slot) {
  slot.lane = Lane();
  slot.lane.expect_own_choices(context_.options().consistency_model);
  slot.lane.watch_candidates(candidates());
}

void Engine::assign(Slot& slot, std::vector<Token> tokens) {
  slot.lane.assign(std::move(tokens));
  slot.lane.lost_rows(context_.trim(slot.index, slot.lane.written()));
}

double Engine::prefill_one_chunk() {
  for (size_t i = 0; i < slots_.size(); i++) {
    Slot& slot = slots_[(next_prefill_ + i) % slots_.size()];
    if (!slot.busy() || !slot.lane.needs_prefill()) continue;
    next_prefill_ = (next_prefill_ + i + 1) % slots_.size();
    const auto piece = slot.lane.prefill_piece(context_.options().prefill_chunk);
    // llama.cpp computes one token with other kernels than two or more: a lone token goes with a dummy behind it, so
    // that every KV row is made by the same arithmetic. The dummy's row is trimmed before the next pass.
    const Token padded[2] = {piece[0], piece[0]};
    const bool pad = piece.size() == 1 && context_.model().info().can_roll_back;
    const Piece pass{slot.index, slot.lane.written(), pad ? std::span<const Token>(padded) : piece};
    const PassResult result = context_.decode({&pass, 1}, false);
    const double milliseconds = context_.pass_milliseconds();
    if (result == PassResult::kFailed) fail(slot, take_last_log_error());
    if (result != PassResult::kOk) return milliseconds;
    slot.lane.prefilled(static_cast<int>(piece.size()));
    if (slot.generation) slot.generation->stats.prefill_milliseconds += milliseconds;
    return milliseconds;
  }
  return 0;
}

void Engine::iterate_ready(double prefill_milliseconds) {
  std::vector<Slot*> ready;
  for (Slot& slot : slots_) {
    if (!slot.busy() || slot.lane.needs_prefill()) continue;
    if (slot.operation && slot.operation->kind == Command::Kind::kPrefill) {
      Event event{.type = Event::Type::kPrefilled, .id = slot.operation->id};
      event.reused = slot.reused;
      event.prefilled = slot.lane.written() - slot.reused;
      events_.push_back(std::move(event));
      slot.operation.reset();
      continue;
    }
    ready.push_back(&slot);
  }
  choose_shape(ready);
  const auto shape = [this](const Slot* slot) {
    const PassShape of = shape_of(*slot);
    return std::pair(of.block, of.candidates);
  };
  std::stable_sort(ready.begin(), ready.end(), [&](Slot* a, Slot* b) { return shape(a) < shape(b); });
  std::vector<Slot*> group;
  for (size_t i = 0; i < ready.size(); i++) {
    group.push_back(ready[i]);
    if (i + 1 < ready.size() && shape(ready[i + 1]) == shape(ready[i])) continue;
    iterate_group(group, prefill_milliseconds);
    group.clear();
  }
}

// The shape of all lanes that leave it to us: they share a pass, so they have one.
void Engine::choose_shape(const std::vector<Slot*>& ready) {
  std::vector<const Slot*> lanes;
  for (const Slot* slot : ready) {
    if (slot->generation && slot->generation->params.block_size == 0) lanes.push_back(slot);
  }
  if (lanes.empty()) return;
  const bool on_host = std::any_of(lanes.begin(), lanes.end(), [](const Slot* slot) { return slot->on_host(); });
  const auto fits = [&](const PassShape& shape) {
    return shape.block <= context_.options().block_size &&
           (shape.candidates == 1 || (resident_ && !on_host && resident_->fits(shape)));
  };
  shape_ = chooser_.choose(static_cast<int>(lanes.size()), fits, [&](const PassShape& shape) {
    double sum = 0;
    for (const Slot* slot : lanes) sum += slot->lane.expected(shape.block, shape.candidates);
    return sum;
  });
  chosen_.store(static_cast<uint32_t>(shape_.candidates << 16 | shape_.block), std::memory_order_relaxed);
}

void Engine::iterate_group(std::vector<Slot*>& group, double prefill_milliseconds) {
  const auto started = std::chrono::steady_clock::now();
  std::vector<LaneRun> runs;
  bool sequences = false;
  PassShape shape = shape_of(*group[0]);
  shape.lanes = static_cast<int32_t>(group.size());
  for (Slot* slot : group) {
    const int64_t room = context_.options().context_size - static_cast<int64_t>(slot->lane.tokens().size());
    const DecodeParams& params = slot->params();
    // Candidates are what is looked up: the lane's own block is its own choices.
    const DraftMode mode = shape.candidates > 1 ? kDraftFill : slot->lane.better_mode(shape.block);
    runs.push_back(
        {.index = slot->index,
         .lane = &slot->lane,
         .seed = params.seed,
         .budget = slot->generation ? slot->generation->budget : room,
         .stop_at_end = slot->generation.has_value(),
         .wants_logits = slot->operation ? slot->operation->iterate.logits : slot->generation->params.logprobs >= 0,
         .choosing = params.choosing,
         .draft_mode = params.draft_source.value_or(mode),
         .rules = slot->rules()});
    sequences = sequences || slot->operation;
  }
  const bool on_host = std::any_of(group.begin(), group.end(), [](const Slot* slot) { return slot->on_host(); });
  IterationRunner& runner = begin(runs, shape, on_host);
  // iterate() of a sequence means one.
  const PassResult result = runner.iterate(sequences ? 1 : context_.options().burst);
  if (result == PassResult::kFailed) {
    const std::string reason = take_last_log_error();
    for (Slot* slot : group) fail(*slot, reason);
  }
  if (result == PassResult::kOk) {
    const auto outcomes = runner.poll();
    // A burst's time is shared evenly by its iterations.
    const double share = static_cast<double>(group.size()) / static_cast<double>(std::max<size_t>(1, outcomes.size()));
    const double forward = runner.forward_milliseconds() * std::min(1.0, share);
    const double elapsed = (milliseconds_since(tick_started_) - prefill_milliseconds) * std::min(1.0, share);
    if (&runner == &host_) shape.candidates = 1;
    chooser_.observe(shape, milliseconds_since(started) * std::min(1.0, share));
    for (const LaneOutcome& outcome : outcomes) {
      Slot& slot = slots_[static_cast<size_t>(outcome.index)];
      // A stop string may have ended the generation earlier in this burst.
      if (slot.busy()) finish_iteration(slot, outcome, elapsed, forward);
    }
  }
  runner.end();
}

// Small blocks run resident where that is possible, others on the host.
IterationRunner& Engine::begin(const std::vector<LaneRun>& runs, const PassShape& shape, bool on_host) {
  if (resident_ && !on_host && resident_->fits(shape) && resident_->begin(runs, shape)) return *resident_;
  host_.begin(runs, shape);
  return host_;
}

std::string Engine::runner_reason() const {
  return resident_ ? resident_->reason() : host_.reason() + "; not resident: " + no_resident_;
}

void Engine::finish_iteration(Slot& slot, const LaneOutcome& outcome, double milliseconds, double forward) {
  const Iteration& iteration = *outcome.iteration;
  if (slot.operation) {
    Event event{.type = Event::Type::kIteration, .id = slot.operation->id};
    event.iteration = iteration;
    event.forward_milliseconds = forward;
    if (slot.operation->iterate.logits && outcome.logits != nullptr) {
      const size_t count = iteration.block.size() * static_cast<size_t>(context_.model().info().vocab_size);
      event.logits.assign(outcome.logits, outcome.logits + count);
    }
    events_.push_back(std::move(event));
    slot.operation.reset();
    return;
  }
  Generation& generation = *slot.generation;
  generation.stats.decode_milliseconds += milliseconds;
  generation.stats.forward_milliseconds += forward;
  const TokenRules* rules = generation.params.rules.get();
  const bool failed = rules != nullptr && !rules->failure().empty();
  const int taken = generation.accept(iteration, outcome.logits, failed ? rules->before_failure() : iteration.emitted);
  if (failed && !generation.finished()) return fail(slot, rules->failure());
  if (taken < iteration.emitted) slot.lane.rollback(iteration.position + 1 + taken);
  if (generation.finished()) return finish_generation(slot);
  if (!generation.params.stream) return;
  Event chunk = generation.take_chunk();
  if (!chunk.text.empty()) events_.push_back(std::move(chunk));
}

void Engine::finish_generation(Slot& slot) {
  if (slot.generation->params.stream) {
    Event chunk = slot.generation->take_chunk();
    if (!chunk.text.empty() || !chunk.tokens.empty()) events_.push_back(std::move(chunk));
  }
  events_.push_back(slot.generation->done());
  slot.generation.reset();
}

void Engine::fail(Slot& slot, const std::string& reason) {
  const uint32_t id = slot.generation ? slot.generation->id : slot.operation->id;
  error(id, "CLLM_DECODE_FAILED", "Decoding failed: " + (reason.empty() ? "no reason given" : reason));
  slot.generation.reset();
  slot.operation.reset();
  empty(slot);
  context_.trim(slot.index, 0);
}

void Engine::finish_all() {
  const auto disposed = [this](uint32_t id) { error(id, "CLLM_DISPOSED", "The decoder was disposed"); };
  for (Slot& slot : slots_) {
    if (slot.generation) disposed(slot.generation->id);
    if (slot.operation) disposed(slot.operation->id);
    for (const Command& command : slot.queue) disposed(command.id);
  }
  for (const Command& command : waiting_) disposed(command.id);
  std::lock_guard lock(mutex_);
  for (const Command& command : inbox_) {
    if (command.kind != Command::Kind::kAbort) disposed(command.id);
  }
}

void Engine::error(uint32_t id, const char* code, std::string message) {
  events_.push_back({.type = Event::Type::kError, .id = id, .text = std::move(message), .reason = code});
}

// Where the context ends a block is shorter: it never needs a row beyond contextSize. Of a block of 2 and more at least
// 2 tokens are left, because the last token that fits is emitted without a row of its own. Who names a block size has
// as many candidates as a part of a pass has room for.
PassShape Engine::shape_of(const Slot& slot) const {
  const int asked = slot.params().block_size;
  const int position = static_cast<int>(slot.lane.tokens().size()) - 1;
  const int n = std::min(asked == 0 ? shape_.block : asked, context_.options().context_size - position);
  int candidates = asked == 0 ? shape_.candidates : std::min(this->candidates(), std::max(1, kLargestPart / n));
  if (n == 1 || slot.on_host()) candidates = 1;
  return {1, candidates, n};
}

Engine::Slot* Engine::slot_of(uint32_t sequence) {
  for (Slot& slot : slots_) {
    if (slot.sequence == sequence && sequence != 0) return &slot;
  }
  return nullptr;
}

// The free lane whose tokens share the longest prefix; among equals the one that has been idle for longest, so that
// prefixes which may be asked for again live on.
Engine::Slot* Engine::free_slot(const std::vector<Token>& tokens) {
  Slot* best = nullptr;
  std::ptrdiff_t longest = -1;
  for (Slot& slot : slots_) {
    if (!slot.free()) continue;
    const auto& held = slot.lane.tokens();
    const auto limit = static_cast<std::ptrdiff_t>(std::min(held.size(), tokens.size()));
    const auto common = std::mismatch(held.begin(), held.begin() + limit, tokens.begin()).first - held.begin();
    if (common > longest || (common == longest && slot.last_used < best->last_used)) {
      longest = common;
      best = &slot;
    }
  }
  if (best != nullptr) best->last_used = ++uses_;
  return best;
}

bool Engine::all_lanes_are_sequences() const {
  return std::all_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.sequence != 0; });
}

}  // namespace cllm
