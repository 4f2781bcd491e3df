// Engine: the effect of commands, and the lanes that they get.
#include <algorithm>

#include "decode/engine.h"

namespace cllm {

void Engine::dispatch(Command&& command) {
  using Kind = Command::Kind;
  if (command.kind == Kind::kAbort) return abort(command.id);
  if (command.kind == Kind::kGenerate && command.sequence == 0) {
    waiting_.push_back(std::move(command));
    return;
  }
  if (command.kind == Kind::kOpenSequence) return open_sequence(command.id);
  ServedLane* served = lane_of(command.sequence);
  if (served == nullptr) return error(command.id, "CLLM_DISPOSED", "The sequence is disposed");
  served->queue.push_back(std::move(command));
}

void Engine::open_sequence(uint32_t id) {
  ServedLane* served = free_lane({});
  if (served == nullptr) {
    return error(id, "CLLM_NO_FREE_LANE",
                 "Expected a free lane for a sequence but all " + std::to_string(lanes_.size()) + " are in use");
  }
  served->sequence = next_sequence_++;
  clear_lane(*served);
  context_.trim(served->index, 0);
  events_.push_back({.type = Event::Type::kSequence, .id = id, .sequence = served->sequence});
}

void Engine::abort(uint32_t id) {
  const auto abort_queued = [&](std::deque<Command>& queue) {
    const auto at = std::find_if(queue.begin(), queue.end(), [&](const Command& c) { return c.id == id; });
    if (at == queue.end()) return;
    events_.push_back({.type = Event::Type::kDone, .id = id, .reason = "abort"});
    queue.erase(at);
  };
  abort_queued(waiting_);
  for (ServedLane& served : lanes_) {
    abort_queued(served.queue);
    if (served.generation && served.generation->id == id) {
      served.generation->finish("abort");
      finish_generation(served);
    }
  }
}

void Engine::admit() {
  while (!waiting_.empty()) {
    ServedLane* served = free_lane(waiting_.front().tokens);
    if (served == nullptr) break;
    Command command = std::move(waiting_.front());
    waiting_.pop_front();
    start_generation(*served, std::move(command));
  }
  if (!all_lanes_are_sequences()) return;
  // Waiting generations would wait for as long as the sequences are kept, which may be for ever.
  for (const Command& command : waiting_) {
    error(command.id, "CLLM_NO_FREE_LANE",
          "Expected a lane for generate() but all " + std::to_string(lanes_.size()) + " are held by sequences");
  }
  waiting_.clear();
}

void Engine::start_queued(ServedLane& served) {
  using Kind = Command::Kind;
  while (!served.busy() && !served.queue.empty()) {
    Command command = std::move(served.queue.front());
    served.queue.pop_front();
    const uint32_t id = command.id;
    switch (command.kind) {
      case Kind::kGenerate: start_generation(served, std::move(command)); break;
      case Kind::kPrefill: start_prefill(served, std::move(command)); break;
      case Kind::kIterate: start_iterate(served, std::move(command)); break;
      case Kind::kFork: fork(served, id); break;
      case Kind::kRollback: roll_back(served, command); break;
      case Kind::kCloseSequence: close_sequence(served, id); break;
      default: break;
    }
  }
}

void Engine::start_generation(ServedLane& served, Command&& command) {
  const int64_t room = context_.options().context_size - static_cast<int64_t>(command.tokens.size());
  if (room < 1) {
    return error(command.id, "CLLM_CONTEXT_OVERFLOW",
                 "Expected a prompt of less than " + std::to_string(context_.options().context_size) +
                     " tokens (contextSize) but received " + std::to_string(command.tokens.size()));
  }
  served.generation.emplace(command, context_.model(), std::min(command.generate.max_tokens, room));
  assign(served, std::move(command.tokens));
  served.generation->stats.cached_tokens = served.lane.written();
}

void Engine::start_prefill(ServedLane& served, Command&& command) {
  if (static_cast<int64_t>(command.tokens.size()) > context_.options().context_size) {
    return error(command.id, "CLLM_CONTEXT_OVERFLOW",
                 "Expected at most " + std::to_string(context_.options().context_size) +
                     " tokens (contextSize) but received " + std::to_string(command.tokens.size()));
  }
  assign(served, std::move(command.tokens));
  served.reused = served.lane.written();
  served.operation = std::move(command);
}

void Engine::start_iterate(ServedLane& served, Command&& command) {
  const auto size = static_cast<int64_t>(served.lane.tokens().size());
  if (size == 0) return error(command.id, "CLLM_NOT_SUPPORTED", "Expected a prefilled sequence but it holds no tokens");
  if (size >= context_.options().context_size) {
    return error(command.id, "CLLM_CONTEXT_OVERFLOW",
                 "The sequence's context is full (" + std::to_string(size) + " tokens): roll back first");
  }
  trim(served);  // a generation may have been cut within its last block
  if (command.iterate.draft) served.lane.set_draft(*command.iterate.draft);
  served.operation = std::move(command);
}

void Engine::roll_back(ServedLane& served, const Command& command) {
  const int size = static_cast<int>(served.lane.tokens().size());
  served.lane.rollback(std::clamp(command.position, 0, size));
  trim(served);
  events_.push_back({.type = Event::Type::kOk, .id = command.id});
}

void Engine::close_sequence(ServedLane& served, uint32_t id) {
  served.sequence = 0;
  events_.push_back({.type = Event::Type::kOk, .id = id});
  for (const Command& queued : served.queue) error(queued.id, "CLLM_DISPOSED", "The sequence is disposed");
  served.queue.clear();
}

void Engine::fork(ServedLane& from, uint32_t id) {
  ServedLane* to = free_lane({});
  if (to == nullptr) {
    return error(id, "CLLM_NO_FREE_LANE",
                 "Expected a free lane for a fork but all " + std::to_string(lanes_.size()) + " are in use");
  }
  to->sequence = next_sequence_++;
  trim(from);  // a copy cannot go back over rejected drafts
  to->lane = from.lane;
  context_.copy(from.index, to->index);
  to->lane.lost_rows(context_.rows(to->index));
  Event event{.type = Event::Type::kSequence, .id = id, .sequence = to->sequence};
  event.tokens = to->lane.tokens();
  events_.push_back(std::move(event));
}

void Engine::assign(ServedLane& served, std::vector<Token> tokens) {
  served.lane.assign(std::move(tokens));
  trim(served);
}

// Removes the rows behind the lane's. The lane learns how many of its own are left.
void Engine::trim(ServedLane& served) { served.lane.lost_rows(context_.trim(served.index, served.lane.written())); }

ServedLane* Engine::lane_of(uint32_t sequence) {
  for (ServedLane& served : lanes_) {
    if (served.sequence == sequence && sequence != 0) return &served;
  }
  return nullptr;
}

// Returns the free lane whose tokens share the longest prefix; among equals the one that has been idle for longest, so
// that prefixes which may be asked for again live on.
ServedLane* Engine::free_lane(const std::vector<Token>& tokens) {
  ServedLane* best = nullptr;
  std::ptrdiff_t longest_common = -1;
  for (ServedLane& served : lanes_) {
    if (!served.free()) continue;
    const auto& kept = served.lane.tokens();
    const auto limit = static_cast<std::ptrdiff_t>(std::min(kept.size(), tokens.size()));
    const auto common = std::mismatch(kept.begin(), kept.begin() + limit, tokens.begin()).first - kept.begin();
    if (common > longest_common || (common == longest_common && served.last_used < best->last_used)) {
      longest_common = common;
      best = &served;
    }
  }
  if (best != nullptr) best->last_used = ++use_count_;
  return best;
}

bool Engine::all_lanes_are_sequences() const {
  return std::all_of(lanes_.begin(), lanes_.end(), [](const ServedLane& served) { return served.sequence != 0; });
}

}  // namespace cllm
