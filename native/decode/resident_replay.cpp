// ResidentRunner after its iterations: the host's Lanes follow the device.
#include <algorithm>
#include <cstring>

#include "decode/resident_runner.h"

namespace cllm {

namespace {

constexpr int kVerdictWords = sizeof(Verdict) / sizeof(int32_t);

}  // namespace

// Brings the Lanes to where the device is, by the same rules, and checks that both came to the same result.
bool ResidentRunner::replay(int count) {
  size_t lanes = 0;
  for (const LaneGroup& group : groups_) lanes += group.lanes.size();
  iterations_.resize(std::max(iterations_.size(), lanes * static_cast<size_t>(count)));
  logits_.clear();
  for (int ring_slot = 0; ring_slot < count; ring_slot++) {
    for (LaneGroup& group : groups_) {
      for (size_t b = 0; b < group.lanes.size(); b++) {
        if (!replay_lane(group, b, ring_slot)) return false;
      }
    }
  }
  return true;
}

bool ResidentRunner::replay_lane(LaneGroup& group, size_t b, int ring_slot) {
  const int n = group.shape.block;
  const auto slot = static_cast<int64_t>(ring_slot) * group.shape.lanes + static_cast<int64_t>(b);
  const int32_t* record = lanes_.arrays_of(group).ring + slot * ring_words(n);
  Verdict verdict;
  std::memcpy(static_cast<void*>(&verdict), record, sizeof(verdict));
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
  on_device.state.position += iteration.emitted;
  on_device.state.budget = static_cast<int32_t>(std::min<int64_t>(work.budget, INT32_MAX));
  // A lane that has stopped keeps its old inputs on the device, so these are not the Lane's next block.
  if (verdict.ended != 0 || on_device.state.budget == 0) on_device.uploaded = false;
  Iteration& reported = iterations_[outcomes_.size()];
  reported = iteration;
  reported.candidates = group.shape.candidates;
  work.lane->block(n, work.seed, work.draft_mode);
  outcomes_.push_back({work.index, &reported, read_logits(group, b, verdict.winner)});
  return true;
}

const float* ResidentRunner::read_logits(const LaneGroup& group, size_t b, int winner) {
  if (!group.lanes[b].wants_logits) return nullptr;
  const ResidentGraph& graph = *lanes_[group.first].graph;
  const auto vocab = static_cast<size_t>(context_.model().info().vocab_size);
  const auto n = static_cast<size_t>(group.shape.block);
  const size_t row = (b * static_cast<size_t>(group.shape.candidates) + static_cast<size_t>(winner)) * n;
  std::vector<float>& rows = logits_.emplace_back(n * vocab);
  for (size_t j = 0; j < n; j++) {
    device_->read(&rows[j * vocab], graph.logits + static_cast<int64_t>(row + j) * graph.logits_stride,
                  vocab * sizeof(float));
  }
  return rows.data();
}

}  // namespace cllm
