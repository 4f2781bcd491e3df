// ResidentRunner: the iterations of a burst, and how they are launched.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <shared_mutex>
#include <thread>

#include "base/capture_lock.h"
#include "base/ggml_guard.h"
#include "base/limits.h"
#include "decode/resident_runner.h"

namespace cllm {

namespace {

using Clock = std::chrono::steady_clock;

/// Iterations that are enqueued and not yet read, at most, where the device records no loop. With two the device always
/// has work, and at most one pass is run after the last lane has stopped.
constexpr int kAhead = 2;
/// Recordings that are kept. Each takes a few megabytes on the GPU and host.
constexpr size_t kMaxRecordings = 8;
/// How long the host looks at the ring without a pause, and how long each pause is from then on. Iterations that take
/// milliseconds should not cost a core.
constexpr auto kSpinTime = std::chrono::microseconds(50), kNap = std::chrono::microseconds(20);
/// Looks at the ring between two questions to the device whether it is idle.
constexpr int kLooksPerQuestion = 64;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

void compute(GraphBridge& bridge, ResidentGraph* graph, int threads) {
  GraphBridge::Status status;
  try {
    GgmlGuard guard;
    status = bridge.compute(graph, threads);
  } catch (const std::exception& failure) {
    throw PassEnded(PassResult::kFailed, failure.what());
  }
  if (status == GraphBridge::Status::kAborted) throw PassEnded(PassResult::kAborted, "a forward pass was aborted");
  if (status != GraphBridge::Status::kOk) throw PassEnded(PassResult::kFailed, "a forward pass failed");
}

}  // namespace

std::optional<PassResult> ResidentRunner::run(std::span<const LaneWork> lanes, const PassShape& shape, int count,
                                              BurstObserver& observer) {
  if (!make_resident(lanes, shape)) return std::nullopt;
  const bool logits = std::any_of(lanes.begin(), lanes.end(), [](const LaneWork& work) { return work.wants_logits; });
  PassResult result = PassResult::kFailed;
  try {
    result = burst(logits ? 1 : std::min(count, kMaxBurst), logits, observer);
  } catch (const PassEnded& ended) {
    result = ended.result;
  } catch (...) {
    abandon();
    throw;
  }
  if (result != PassResult::kOk) abandon();
  return result;
}

PassResult ResidentRunner::burst(int count, bool logits, BurstObserver& observer) {
  // A recording runs the passes of all groups before anything can be read.
  RecordedBurst* recorded = logits && groups_.size() > 1 ? nullptr : recorded_burst();
  bool loop = recorded != nullptr && recorded->recording->kind() == Recorded::kLoop;
  set_limit(iteration_ + static_cast<uint32_t>(count));
  enqueueing_ = 0;
  int enqueued = 0, seen = 0;
  bool wanted = true;
  while (true) {
    const int ahead = device_->on_host() ? 1 : kAhead;
    while (wanted && enqueued < count && enqueued < seen + ahead) {
      if (recorded != nullptr && !launch(*recorded)) {
        recorded = nullptr;
        loop = false;
      }
      if (recorded == nullptr) {
        enqueue(logits);
      } else if (logits) {
        read_logits(groups_.front());
      }
      enqueued = loop ? count : enqueued + 1;
    }
    if (seen == enqueued) break;
    if (!wait_for_iteration(!loop && seen + 1 == enqueued)) {
      if (!loop) return PassResult::kFailed;
      break;  // the loop has ended before its limit
    }
    if (!replay(observer)) return PassResult::kFailed;
    seen++;
    iteration_++;
    enqueueing_ = 0;
    if (!observer.iterated()) wanted = false;
    if (!any_lane_runs()) wanted = false;
    if (!wanted) set_limit(iteration_);  // a loop then ends behind the iteration in flight
  }
  device_->wait();
  note_rows(count == 1);
  if (context_.states() != nullptr) note_states(count == 1);
  return PassResult::kOk;
}

ResidentRunner::Pass ResidentRunner::pass_of(const LaneGroup& group) const {
  const auto any = [&group](auto&& has) {
    return std::any_of(group.lanes.begin(), group.lanes.end(),
                       [&](const LaneWork& work) { return has(work.choosing); });
  };
  return {.graph = lanes_[group.first].graph,
          .first = group.first,
          .shape = group.shape,
          .scratch = lanes_[group.first].scratch.first,
          .biased = any([](const Choosing& choosing) { return choosing.bias != nullptr; }),
          .samples = any([](const Choosing& choosing) { return choosing.sampling.temperature > 0; })};
}

// The burst's iteration with its recording, or null where it is to be enqueued kernel by kernel: where nothing can be
// recorded, and for the first time that the iteration comes, which makes ggml allocate what it needs.
ResidentRunner::RecordedBurst* ResidentRunner::recorded_burst() {
  if (device_->on_host()) return nullptr;
  if (recordings_epoch_ != bridge_->epoch() || recordings_frees_ != bridge_->frees()) recordings_.clear();
  recordings_epoch_ = bridge_->epoch();
  recordings_frees_ = bridge_->frees();
  std::vector<Pass> passes;
  for (const LaneGroup& group : groups_) passes.push_back(pass_of(group));
  auto found = std::find_if(recordings_.begin(), recordings_.end(),
                            [&](const RecordedBurst& burst) { return burst.passes == passes; });
  std::string refusal;
  if (found == recordings_.end()) {
    if (recordings_.size() == kMaxRecordings) {
      recordings_.erase(std::min_element(recordings_.begin(), recordings_.end(),
                                         [](const auto& a, const auto& b) { return a.last_use < b.last_use; }));
    }
    recordings_.push_back({.passes = std::move(passes)});
    found = std::prev(recordings_.end());
  } else if (!found->tried) {
    const std::shared_lock lock(capture_lock());
    found->tried = true;
    found->recording = device_->record([this] { enqueue(false); }, refusal);
  }
  found->last_use = ++use_count_;
  tell_launched(*found, refusal);
  return found->recording != nullptr ? &*found : nullptr;
}

// Launches the recording. Where that fails (its memory is taken at the first launch), nothing has run; the recording is
// given up, and false returned.
bool ResidentRunner::launch(RecordedBurst& recorded) {
  const auto started = Clock::now();
  try {
    device_->launch(*recorded.recording);
  } catch (const std::exception& failure) {
    recorded.recording.reset();
    tell_launched(recorded, failure.what());
    return false;
  }
  enqueueing_ += milliseconds_since(started);
  return true;
}

void ResidentRunner::tell_launched(const RecordedBurst& recorded, const std::string& refusal) {
  const std::lock_guard lock(launched_mutex_);
  launched_.recorded = recorded.recording != nullptr ? recorded.recording->kind() : Recorded::kNothing;
  launched_.nodes = recorded.recording != nullptr ? recorded.recording->nodes() : 0;
  if (!refusal.empty()) launched_.refusal = refusal;
}

ResidentRunner::Launched ResidentRunner::launched() const {
  const std::lock_guard lock(launched_mutex_);
  return launched_;
}

// Enqueues an iteration kernel by kernel. On the CPU it has run then, and only the forward pass is counted as such.
void ResidentRunner::enqueue(bool reads_logits) {
  const auto started = Clock::now();
  double forward = 0;
  for (const LaneGroup& group : groups_) {
    const auto pass_started = Clock::now();
    device_->forward([bridge = bridge_.get(), graph = lanes_[group.first].graph,
                      threads = context_.governor().threads()] { compute(*bridge, graph, threads); });
    const double milliseconds = milliseconds_since(pass_started);
    if (device_->on_host()) context_.governor().observe(group.shape.rows(), milliseconds);
    forward += milliseconds;
    enqueue_kernels(group);
    if (reads_logits) read_logits(group);
  }
  enqueueing_ += device_->on_host() ? forward : milliseconds_since(started);
}

void ResidentRunner::enqueue_kernels(const LaneGroup& group) {
  const Pass pass = pass_of(group);
  const ResidentGraph& graph = *pass.graph;
  const ScratchRows scratch{pass.scratch};
  const DeviceLanes::Arrays arrays = lanes_.arrays_of(group);
  const int64_t vocab = context_.model().info().vocab_size;
  const int64_t rows_per_lane = static_cast<int64_t>(group.shape.candidates) * group.shape.block;
  int32_t lanes_of_burst = 0;
  for (const LaneGroup& other : groups_) lanes_of_burst += other.shape.lanes;
  if (pass.biased) {
    device_->bias({.logits = graph.logits,
                   .rows = group.shape.rows(),
                   .vocab = vocab,
                   .stride = graph.logits_stride,
                   .rows_per_lane = rows_per_lane,
                   .biases = arrays.biases});
  }
  device_->choose({.logits = graph.logits,
                   .rows = group.shape.rows(),
                   .vocab = vocab,
                   .stride = graph.logits_stride,
                   .choices = arrays.choices,
                   .sampling = pass.samples ? arrays.samplings : nullptr,
                   .rows_per_lane = rows_per_lane,
                   .lanes = arrays.states,
                   .block = group.shape.block});
  device_->advance({.shape = group.shape,
                    .choices = arrays.choices,
                    .end_of_generation = arrays.end_of_generation,
                    .verdicts = arrays.verdicts,
                    .lanes = arrays.states,
                    .stood = arrays.stood,
                    .inputs = graph.inputs,
                    .scratch = scratch,
                    .ring = arrays.ring,
                    .loop = {lanes_.loop_state(), lanes_.loop_limit(), lanes_of_burst}});
  if (group.shape.candidates > 1) {
    device_->roll_forward({.shape = group.shape,
                           .verdicts = arrays.verdicts,
                           .tensors = arrays.kv_tensors,
                           .count = static_cast<int32_t>(bridge_->kv_tensors().size()),
                           .first_stream = graph.inputs.first_stream,
                           .kv_size = graph.inputs.full.kv_size,
                           .scratch = scratch});
  }
  if (graph.inputs.states.rows != nullptr) {
    device_->keep_state({.shape = group.shape,
                         .verdicts = arrays.verdicts,
                         .lanes = arrays.states,
                         .tensors = arrays.state_tensors,
                         .count = static_cast<int32_t>(bridge_->state_tensors().size()),
                         .first_lane = group.first,
                         .states = graph.inputs.states});
  }
}

// The device may read the limit at the same time.
void ResidentRunner::set_limit(uint32_t limit) {
  std::atomic_ref<uint32_t>(*lanes_.loop_limit()).store(limit, std::memory_order_release);
}

// Waits until all records of the iteration are in the ring, and copies them. Returns false where the device has become
// idle without writing them. Behind the last iteration that was enqueued the device has nothing to do, so it is waited
// for without naps.
bool ResidentRunner::wait_for_iteration(bool is_last) {
  if (is_last) device_->wait();
  const auto started = Clock::now();
  const uint32_t stamp = ring_stamp(iteration_);
  bool idle = is_last;
  int looks = 0;
  records_.clear();
  for (const LaneGroup& group : groups_) {
    const auto words = static_cast<size_t>(ring_words(group.shape.block));
    const Ring ring = lanes_.arrays_of(group).ring;
    const size_t slot = iteration_ % ring.slots;
    for (size_t b = 0; b < group.lanes.size(); b++) {
      const size_t at = records_.size();
      records_.resize(at + words);
      while (!read_ring(ring.words + (slot * group.lanes.size() + b) * words, stamp, {&records_[at], words})) {
        if (idle) return false;
        const bool napping = Clock::now() - started > kSpinTime;
        if (napping) std::this_thread::sleep_for(kNap);
        // A record may arrive between the look and the question, so there is one look more.
        if (napping || ++looks % kLooksPerQuestion == 0) idle = device_->idle();
      }
    }
  }
  return true;
}

bool ResidentRunner::any_lane_runs() const {
  for (const LaneGroup& group : groups_) {
    for (size_t b = 0; b < group.lanes.size(); b++) {
      if (!group.left[b] && lane_runs(lanes_[group.lanes[b].index].state, group.shape.block)) return true;
    }
  }
  return false;
}

// Device and Lanes may differ after a failure, so nothing that is on the device is used again. An iteration may be done
// in part: its number is not used again either, because records with its stamp may lie in the ring.
void ResidentRunner::abandon() {
  for (const LaneGroup& group : groups_) {
    for (const LaneWork& work : group.lanes) {
      lanes_[work.index].graph = nullptr;
      context_.wrote(work.index, lanes_[work.index].state.row_end + 1);
      if (context_.states() != nullptr) context_.clear(work.index);
    }
  }
  set_limit(iteration_);
  try {
    device_->wait();
  } catch (...) {
    // It is the failure that brought us here; or the device is lost, which every later call will report.
  }
  try {
    LoopState state;
    device_->read(&state, lanes_.loop_state(), sizeof(state));
    iteration_ = state.iteration + 1;
    state = {.iteration = iteration_};
    device_->write(lanes_.loop_state(), &state, sizeof(state));
  } catch (const std::exception&) {
  }
}

}  // namespace cllm
