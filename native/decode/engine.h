#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "decode/block_chooser.h"
#include "decode/command.h"
#include "decode/context.h"
#include "decode/generation.h"
#include "decode/host_runner.h"
#include "decode/iteration_runner.h"
#include "decode/lane.h"
#include "decode/resident_runner.h"

namespace cllm {

/// A decoder: one context, one decode thread, `lanes` lanes, and the scheduler that keeps them full.
///
/// Every tick of the thread does, in this order: take commands; give free lanes to waiting generations; run at most ONE
/// prefill chunk (so that a long prompt does not starve the lanes that are decoding); run one Jacobi iteration for all
/// lanes that are ready, lanes of equal shape in one forward pass; send the events of the tick in one batch.
///
/// A lane keeps its KV when its generation ends, and a new prompt goes to the free lane that shares the longest prefix.
///
/// Lifetime: stop() joins the thread; it must be called before the sink's receiver goes away. The destructor calls it.
class Engine {
 public:
  using Sink = std::function<void(std::vector<Event>&&)>;

  /// Creates the context (blocks); throws Error. No thread runs before start().
  Engine(std::shared_ptr<const Model> model, const ContextOptions& options);
  ~Engine();

  /// The sink is called on the decode thread and must not block.
  void start(Sink sink);
  void post(Command command);
  /// Stops within one graph node, answers everything pending with CLLM_DISPOSED, joins the thread. Idempotent.
  void stop();

  const Context& context() const { return context_; }
  /// Blocks that are verified per lane at once, at most.
  int candidates() const { return resident_ ? context_.options().candidates : 1; }
  /// The runner in use for ordinary blocks, and why it is that one.
  const char* runner_name() const { return resident_ ? resident_->name() : host_.name(); }
  std::string runner_reason() const;
  /// The shape that was chosen last for lanes that leave it to the engine; block 0 before the first. On any thread.
  PassShape chosen() const {
    const uint32_t packed = chosen_.load(std::memory_order_relaxed);
    return {1, static_cast<int32_t>(packed >> 16), static_cast<int32_t>(packed & 0xFFFF)};
  }

 private:
  struct Slot {
    int index = 0;
    Lane lane;
    uint32_t sequence = 0;  // handle of the sequence that holds this lane, 0 = none
    std::optional<Generation> generation;
    std::optional<Command> operation;  // a kPrefill or kIterate in progress
    int reused = 0;                    // kPrefill: rows that were there already
    std::deque<Command> queue;         // what the sequence has asked for after that, in order
    uint64_t last_used = 0;            // grows with every generation and sequence

    const DecodeParams& params() const {
      return generation ? static_cast<const DecodeParams&>(generation->params) : operation->iterate;
    }
    TokenRules* rules() const { return generation ? generation->params.rules.get() : nullptr; }
    /// Whether it needs what no device's memory holds: its candidates are one, and its runner the host's.
    bool on_host() const { return rules() != nullptr || params().draft_source == kDraftRecycled; }
    bool busy() const { return generation || operation; }
    bool free() const { return sequence == 0 && !busy(); }
  };

  void run();
  bool tick();
  void dispatch(Command&& command);
  void abort(uint32_t id);
  void admit();
  void start_queued(Slot& slot);
  void start_generation(Slot& slot, Command&& command);
  void start_prefill(Slot& slot, Command&& command);
  void start_iterate(Slot& slot, Command&& command);
  void fork(Slot& from, uint32_t id);
  void empty(Slot& slot);
  void assign(Slot& slot, std::vector<Token> tokens);
  double prefill_one_chunk();
  void iterate_ready(double prefill_milliseconds);
  void choose_shape(const std::vector<Slot*>& ready);
  void iterate_group(std::vector<Slot*>& group, double prefill_milliseconds);
  IterationRunner& begin(const std::vector<LaneRun>& runs, const PassShape& shape, bool on_host);
  void finish_iteration(Slot& slot, const LaneOutcome& outcome, double milliseconds, double forward);
  void finish_generation(Slot& slot);
  void fail(Slot& slot, const std::string& reason);
  void finish_all();
  void error(uint32_t id, const char* code, std::string message);
  PassShape shape_of(const Slot& slot) const;
  Slot* slot_of(uint32_t sequence);
  Slot* free_slot(const std::vector<Token>& tokens);
  bool all_lanes_are_sequences() const;

  Context context_;
  HostRunner host_;
  std::unique_ptr<ResidentRunner> resident_;  // null where the context cannot be decoded that way
  std::string no_resident_;                   // why
  std::vector<Slot> slots_;
  std::deque<Command> waiting_;  // generations without a lane
  std::vector<Event> events_;    // of this tick
  uint32_t next_sequence_ = 1;
  uint64_t uses_ = 0;
  size_t next_prefill_ = 0;  // round robin
  BlockChooser chooser_;
  PassShape shape_;                  // of the lanes that leave it to us, in this tick
  std::atomic<uint32_t> chosen_{0};  // its candidates << 16 | block, for other threads
  std::chrono::steady_clock::time_point tick_started_;

  Sink sink_;
  std::thread thread_;
  std::mutex mutex_;  // guards inbox_ and stopping_
  std::condition_variable wake_;
  std::vector<Command> inbox_;
  bool stopping_ = false;
};

}  // namespace cllm
