#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "decode/block_chooser.h"
#include "decode/command.h"
#include "decode/context.h"
#include "decode/host_runner.h"
#include "decode/iteration_runner.h"
#include "decode/resident_runner.h"
#include "decode/served_lane.h"

namespace cllm {

/// A decoder: one context, one decode thread, `lanes` lanes, and the scheduler that keeps them full.
///
/// Every tick of the thread does, in this order: take commands; give free lanes to waiting generations; run at most ONE
/// prefill chunk (so that a long prompt does not starve the lanes that are decoding); run one Jacobi iteration for all
/// lanes that are ready, or a burst of them, lanes of equal shape in one forward pass; send the events of the tick in
/// one batch. A burst sends its events after every iteration, and ends early where somebody waits for the thread.
///
/// A lane keeps its KV when its generation ends, and a new prompt goes to the free lane that shares the longest prefix.
///
/// Lifetime: stop() joins the thread; it must be called before the sink's receiver goes away. The destructor calls it.
class Engine {
 public:
  using Sink = std::function<void(std::vector<Event>&&)>;

  /// Creates the context (blocks) and the thread, which sleeps until the first command; throws Error.
  Engine(std::shared_ptr<const Model> model, const ContextOptions& options);
  ~Engine();

  /// Sets where events go, once, before the first post(). The sink is called on the decode thread and must not block.
  void start(Sink sink);
  void post(Command command);
  /// Stops within one graph node, answers everything pending with CLLM_DISPOSED, joins the thread. Idempotent.
  void stop();

  const Context& context() const { return context_; }
  /// Blocks that are verified per lane at once, at most.
  int candidates() const { return resident_ ? context_.options().candidates : 1; }
  /// The runner in use for ordinary blocks, and why it is that one.
  const char* runner_name() const { return resident_ ? "resident" : "host"; }
  std::string runner_reason() const;
  /// What the resident runner launched its last burst as; null where it does not run on a GPU. On any thread.
  std::optional<ResidentRunner::Launched> launched() const {
    return resident_ && !resident_->device().on_host() ? std::optional(resident_->launched()) : std::nullopt;
  }
  /// The shape that was chosen last for lanes that leave it to the engine; block 0 before the first. On any thread.
  PassShape chosen() const {
    const uint32_t packed = chosen_.load(std::memory_order_relaxed);
    return {1, static_cast<int32_t>(packed >> 16), static_cast<int32_t>(packed & 0xFFFF)};
  }

 private:
  // engine.cpp: the thread, and how requests end
  void run();
  bool tick();
  void fail(ServedLane& served, const std::string& reason);
  void finish_all();
  void error(uint32_t id, const char* code, std::string message);
  void clear_lane(ServedLane& served);

  // engine_commands.cpp: commands, and the lanes that they get
  void dispatch(Command&& command);
  void open_sequence(uint32_t id);
  void abort(uint32_t id);
  void admit();
  void start_queued(ServedLane& served);
  void start_generation(ServedLane& served, Command&& command);
  void start_prefill(ServedLane& served, Command&& command);
  void start_iterate(ServedLane& served, Command&& command);
  void roll_back(ServedLane& served, const Command& command);
  void close_sequence(ServedLane& served, uint32_t id);
  void fork(ServedLane& from, uint32_t id);
  void assign(ServedLane& served, std::vector<Token> tokens);
  void trim(ServedLane& served);
  ServedLane* lane_of(uint32_t sequence);
  ServedLane* free_lane(const std::vector<Token>& tokens);
  bool all_lanes_are_sequences() const;

  // engine_iterations.cpp: forward passes and their results
  int prefill_pass_tokens() const;
  double prefill_one_chunk();
  void iterate_ready(double prefill_milliseconds);
  void choose_shape(const std::vector<ServedLane*>& ready);
  PassShape shape_of(const ServedLane& served) const;
  LaneWork work_of(ServedLane& served, const PassShape& shape) const;
  void iterate_group(std::vector<ServedLane*>& group, double prefill_milliseconds);
  class GroupObserver;
  void finish_prefill(ServedLane& served);
  void finish_iteration(ServedLane& served, const LaneOutcome& outcome, double milliseconds);
  bool someone_waits();
  void send_events();
  void finish_generation(ServedLane& served);

  Context context_;
  HostRunner host_;
  std::unique_ptr<ResidentRunner> resident_;  // null where the context cannot be decoded this way
  std::string why_not_resident_;              // reason why resident_ is null
  std::vector<ServedLane> lanes_;
  std::deque<Command> waiting_;  // generations without a lane
  std::vector<Event> events_;    // events of this tick
  uint32_t next_sequence_ = 1;
  uint64_t use_count_ = 0;                 // generations and sequences that got a lane
  const bool chooses_prefill_;             // the length of prefill passes was left to us
  double prefill_token_milliseconds_ = 0;  // of the last prefill pass; 0: not yet measured
  size_t next_prefill_ = 0;                // lane that is asked first for a prefill chunk, round robin
  BlockChooser chooser_;
  double answer_tokens_ = 0;         // how long the last answers were, 0: not yet known
  PassShape auto_shape_;             // shape of this tick's lanes that leave it to the engine
  std::atomic<uint32_t> chosen_{0};  // auto_shape_'s candidates << 16 | block, for other threads
  std::chrono::steady_clock::time_point tick_started_;
  std::chrono::steady_clock::time_point iterated_until_;  // end of this tick's last iteration of a lane

  Sink sink_;
  std::mutex mutex_;  // guards inbox_ and stopping_
  std::condition_variable wake_;
  std::vector<Command> inbox_;
  bool stopping_ = false;
  std::thread thread_;  // the last member: it uses the others
};

}  // namespace cllm
