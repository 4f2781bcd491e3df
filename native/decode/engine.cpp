#include "decode/engine.h"

#include <algorithm>
#include <system_error>

#include "base/error.h"

namespace cllm {

Engine::Engine(std::shared_ptr<const Model> model, const ContextOptions& options)
    : context_(std::move(model), options), host_(context_), chooses_prefill_(options.prefill_chunk == 0) {
  if (options.runner == "host") {
    why_not_resident_ = "it was asked for";
  } else {
    resident_ = ResidentRunner::create(context_, why_not_resident_);
    if (!resident_ && options.runner == "resident") {
      throw Error("CLLM_NOT_SUPPORTED", "Expected a model for the resident runner but " +
                                            context_.model().info().description +
                                            " cannot use it: " + why_not_resident_);
    }
  }
  lanes_.resize(static_cast<size_t>(options.lanes));
  for (size_t i = 0; i < lanes_.size(); i++) {
    lanes_[i].index = static_cast<int>(i);
    clear_lane(lanes_[i]);
  }
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& refusal) {
    throw Error("CLLM_OUT_OF_MEMORY",
                std::string("Expected the system to start a thread for a decoder but it refused: ") + refusal.what());
  }
}

Engine::~Engine() { stop(); }

void Engine::start(Sink sink) {
  const std::lock_guard lock(mutex_);
  sink_ = std::move(sink);
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
      // Most likely memory ran out. The exception is caught because one that left the thread would end the process.
      for (ServedLane& served : lanes_) {
        if (served.busy()) fail(served, failure.what());
      }
      working = true;
    }
    send_events();
  }
  finish_all();
  send_events();
}

void Engine::send_events() {
  if (events_.empty()) return;
  sink_(std::move(events_));
  events_.clear();
}

bool Engine::tick() {
  for (ServedLane& served : lanes_) start_queued(served);
  admit();
  const double prefill = prefill_one_chunk();
  iterated_until_ = {};
  iterate_ready(prefill);
  // The time of a pass that was run in vain, when the last lane had stopped, counts for what comes next.
  tick_started_ = iterated_until_.time_since_epoch().count() != 0 ? iterated_until_ : std::chrono::steady_clock::now();
  return std::any_of(lanes_.begin(), lanes_.end(),
                     [](const ServedLane& served) { return served.busy() || !served.queue.empty(); }) ||
         !waiting_.empty();
}

void Engine::fail(ServedLane& served, const std::string& reason) {
  const uint32_t id = served.generation ? served.generation->id : served.operation->id;
  error(id, "CLLM_DECODE_FAILED", "Decoding failed: " + (reason.empty() ? "no reason given" : reason));
  served.generation.reset();
  served.operation.reset();
  clear_lane(served);
  context_.trim(served.index, 0);
}

void Engine::finish_all() {
  const auto disposed = [this](uint32_t id) { error(id, "CLLM_DISPOSED", "The decoder was disposed"); };
  for (ServedLane& served : lanes_) {
    if (served.generation) disposed(served.generation->id);
    if (served.operation) disposed(served.operation->id);
    for (const Command& command : served.queue) disposed(command.id);
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

std::string Engine::runner_reason() const {
  if (resident_) return resident_->reason();
  return "llama_decode with logits in host memory: works with every model; not resident: " + why_not_resident_;
}

void Engine::clear_lane(ServedLane& served) {
  served.lane = Lane(context_.options().context_size);
  served.lane.expect_consistency(context_.options().consistency_model);
  served.lane.watch_candidates(candidates());
}

}  // namespace cllm
