// ResidentRunner behind its iterations: the host's Lanes and the Context follow the device.
#include <algorithm>
#include <array>
#include <bit>

#include "decode/resident_runner.h"

namespace cllm {

// Brings the Lanes over the iteration in records_ by the same rules, and checks that both came to the same result.
bool ResidentRunner::replay(BurstObserver& observer) {
  const int32_t* record = records_.data();
  for (LaneGroup& group : groups_) {
    for (size_t b = 0; b < group.lanes.size(); b++) {
      if (!group.left[b] && !replay_lane(group, b, record, observer)) return false;
      record += ring_words(group.shape.block);
    }
  }
  return true;
}

bool ResidentRunner::replay_lane(LaneGroup& group, size_t b, const int32_t* record, BurstObserver& observer) {
  const int n = group.shape.block;
  std::array<int32_t, kVerdictWords> words;
  std::copy_n(record, kVerdictWords, words.begin());
  const auto verdict = std::bit_cast<Verdict>(words);
  if (verdict.emitted == 0) return true;
  const std::span<const Token> block(record + kVerdictWords, static_cast<size_t>(n));
  const std::span<const Token> choices(block.data() + n, static_cast<size_t>(n));
  LaneWork& work = group.lanes[b];
  if (verdict.winner != 0) work.lane->take_candidate(block);
  const uint8_t* ends = context_.model().end_of_generation().data();
  const Iteration& iteration = work.lane->advance(choices, work.budget, work.stop_at_end ? ends : nullptr);
  if (iteration.position != verdict.position || iteration.accepted != verdict.accepted ||
      iteration.emitted != verdict.emitted || iteration.stationary != verdict.stationary ||
      !std::equal(block.begin(), block.end(), iteration.block.begin(), iteration.block.end())) {
    return false;
  }
  work.budget -= iteration.emitted;
  DeviceLane& on_device = lanes_[work.index];
  on_device.revision = work.lane->revision();
  on_device.pass_position = on_device.state.position;
  on_device.state.position += iteration.emitted;
  on_device.state.budget = static_cast<int32_t>(std::min<int64_t>(work.budget, INT32_MAX));
  on_device.state.ended = verdict.ended;
  // As advance and keep_state leave it.
  const GraphInputs& inputs = lanes_[group.first].graph->inputs;
  on_device.plane = lane_runs(on_device.state, n) ? n - iteration.emitted : inputs.states.spare_plane;
  // A lane that has stopped keeps its old inputs on the device, so these are not the Lane's next block.
  if (!lane_runs(on_device.state, n)) on_device.uploaded = false;
  iteration_read_ = iteration;
  iteration_read_.candidates = group.shape.candidates;
  work.lane->block(n, work.seed, work.draft_mode);
  const size_t winner = static_cast<size_t>(verdict.winner) * static_cast<size_t>(n);
  const auto vocab = static_cast<size_t>(context_.model().info().vocab_size);
  const float* logits = work.wants_logits ? logits_[static_cast<size_t>(work.index)].data() + winner * vocab : nullptr;
  group.left[b] = !observer.took({work.index, &iteration_read_, logits, enqueueing_});
  // The device may go on with a lane that has left, for an iteration or two.
  if (group.left[b]) on_device.uploaded = false;
  return true;
}

// Copies the logits of the lanes that want them. The graphs of all groups share their memory, so the pass of the next
// group overwrites them.
void ResidentRunner::read_logits(const LaneGroup& group) {
  const ResidentGraph& graph = *lanes_[group.first].graph;
  const auto vocab = static_cast<size_t>(context_.model().info().vocab_size);
  const auto rows = static_cast<size_t>(group.shape.candidates) * static_cast<size_t>(group.shape.block);
  for (size_t b = 0; b < group.lanes.size(); b++) {
    const LaneWork& work = group.lanes[b];
    if (!work.wants_logits) continue;
    const auto lane = static_cast<size_t>(work.index);
    logits_.resize(std::max(logits_.size(), lane + 1));
    logits_[lane].resize(rows * vocab);
    for (size_t row = 0; row < rows; row++) {
      device_->read(&logits_[lane][row * vocab],
                    graph.logits + static_cast<int64_t>(b * rows + row) * graph.logits_stride, vocab * sizeof(float));
    }
  }
}

// Tells the context how far the lanes' rows may have been written. The device may go on with a lane that has left, and
// lanes with a recurrent state that have stopped write the row of row_end.
void ResidentRunner::note_rows(bool single_iteration) {
  for (const LaneGroup& group : groups_) {
    for (size_t b = 0; b < group.lanes.size(); b++) {
      const DeviceLane& on_device = lanes_[group.lanes[b].index];
      const bool went_on = group.left[b] && !single_iteration && lane_runs(on_device.state, group.shape.block);
      const bool any_row = went_on || context_.states() != nullptr;
      context_.wrote(group.lanes[b].index,
                     any_row ? on_device.state.row_end + 1 : on_device.pass_position + group.shape.block);
    }
  }
}

// Tells the context where the lanes' recurrent states are. A lane that has left a burst of several iterations may have
// been run on behind what its Lane knows: nothing is left of the state that it would go on from.
void ResidentRunner::note_states(bool single_iteration) {
  LaneStates& states = *context_.states();
  for (const LaneGroup& group : groups_) {
    for (size_t b = 0; b < group.lanes.size(); b++) {
      const int index = group.lanes[b].index;
      const DeviceLane& on_device = lanes_[index];
      const int position = on_device.state.position;
      if (single_iteration) {
        states.moved(index, on_device.pass_position, position,
                     group.shape.block - (position - on_device.pass_position));
      } else if (lane_runs(on_device.state, group.shape.block)) {
        if (group.left[b])
          context_.clear(index);
        else
          states.moved(index, on_device.pass_position, position, on_device.plane);
      } else {
        states.moved(index, position - 1, position, on_device.plane);
      }
    }
  }
}

}  // namespace cllm
