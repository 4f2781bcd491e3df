#include "decode/device_lanes.h"

#include <algorithm>
#include <stdexcept>

#include "base/limits.h"
#include "kernels/draft.h"

namespace cllm {

namespace {

/// Row indices of V for each row.
size_t v_elements(const AttentionInputs& inputs) { return static_cast<size_t>(std::max<int64_t>(1, inputs.v_width)); }

size_t mask_row_bytes(const AttentionInputs& inputs) {
  return static_cast<size_t>(inputs.n_kv) * (inputs.mask_f16 != 0 ? 2 : 4);
}

int32_t clamped_budget(int64_t budget) { return static_cast<int32_t>(std::min<int64_t>(budget, INT32_MAX)); }

}  // namespace

DeviceLanes::DeviceLanes(const Context& context, KernelDevice& device, const GraphBridge& bridge)
    : context_(context),
      device_(device),
      max_candidates_(context.options().candidates),
      max_block_(std::min(context.options().block_size, kMaxPartTokens)),
      lanes_(static_cast<size_t>(context.options().lanes)),
      index_bits_(TextIndex::bits_for(context.options().context_size)) {
  const size_t lanes = lanes_.size();
  const auto n = static_cast<size_t>(max_block_);
  const auto array = [&]<typename T>(T*& to, size_t count) {
    to = static_cast<T*>(device_.allocate(count * sizeof(T)));
  };
  array(choices_, lanes * static_cast<size_t>(max_candidates_) * n);
  array(verdicts_, lanes);
  array(states_, lanes);
  array(samplings_, lanes);
  const Sampling greedy;
  for (size_t lane = 0; lane < lanes; lane++) device_.write(samplings_ + lane, &greedy, sizeof(greedy));
  array(biases_, lanes);
  array(stood_, lanes * n);
  array(tokens_, lanes * (static_cast<size_t>(context.options().context_size) + 1));
  array(latest_, lanes * kMaxKeyLength << index_bits_);
  array(earlier_, lanes * (static_cast<size_t>(context.options().context_size) + 1) * kMaxKeyLength);
  array(loop_state_, 1);
  const auto& ends = context.model().end_of_generation();
  array(end_of_generation_, ends.size());
  device_.write(end_of_generation_, ends.data(), ends.size());
  const auto table = [&]<typename T>(T*& to, const std::vector<T>& tensors) {
    array(to, tensors.size());
    if (!tensors.empty()) device_.write(to, tensors.data(), tensors.size() * sizeof(T));
  };
  table(kv_tensors_, bridge.kv_tensors());
  table(state_tensors_, bridge.state_tensors());
  const auto shared = [&]<typename T>(T*& to, size_t count) {
    to = static_cast<T*>(device_.allocate_shared(count * sizeof(T)));
  };
  shared(ring_, lanes * kMaxBurst * static_cast<size_t>(ring_words(max_block_)));
  shared(loop_limit_, 1);
}

DeviceLanes::Arrays DeviceLanes::arrays_of(const LaneGroup& group) const {
  const auto first = static_cast<int64_t>(group.first);
  return {.choices = choices_ + first * max_candidates_ * max_block_,
          .verdicts = verdicts_ + first,
          .states = states_ + first,
          .samplings = samplings_ + first,
          .biases = biases_ + first,
          .stood = stood_ + first * max_block_,
          .ring = {ring_ + first * kMaxBurst * ring_words(max_block_), kMaxBurst},
          .end_of_generation = end_of_generation_,
          .kv_tensors = kv_tensors_,
          .state_tensors = state_tensors_};
}

void DeviceLanes::upload(const LaneGroup& group, size_t b) {
  const LaneWork& work = group.lanes[b];
  DeviceLane& on_device = (*this)[work.index];
  if (!(on_device.choosing == work.choosing)) upload_choosing(work);
  if (is_current(work)) return;
  if (!on_device.uploaded || on_device.revision != work.lane->revision()) upload_text(work);
  upload_state(work);
  upload_inputs(group, b);
  on_device.revision = work.lane->revision();
  on_device.uploaded = true;
}

bool DeviceLanes::is_current(const LaneWork& work) const {
  const DeviceLane& on_device = (*this)[work.index];
  const LaneState& state = on_device.state;
  return on_device.uploaded && on_device.revision == work.lane->revision() && state.seed == work.seed &&
         state.budget == clamped_budget(work.budget) && state.stop_at_end == (work.stop_at_end ? 1 : 0) &&
         state.draft_mode == work.draft_mode;
}

void DeviceLanes::upload_choosing(const LaneWork& work) {
  DeviceLane& on_device = (*this)[work.index];
  on_device.choosing = work.choosing;
  device_.write(samplings_ + work.index, &work.choosing.sampling, sizeof(Sampling));
  const float* device_bias = nullptr;
  if (work.choosing.bias) {
    const size_t bytes = work.choosing.bias->size() * sizeof(float);
    if (on_device.bias == nullptr) on_device.bias = static_cast<float*>(device_.allocate(bytes));
    device_.write(on_device.bias, work.choosing.bias->data(), bytes);
    device_bias = on_device.bias;
  }
  device_.write(biases_ + work.index, &device_bias, sizeof(device_bias));
}

void DeviceLanes::upload_text(const LaneWork& work) {
  const auto& tokens = work.lane->tokens();
  const PlaceIndex& index = work.lane->index();
  if (index.bits > index_bits_) throw std::logic_error("a lane is made for a longer context than its decoder's");
  LaneState& state = (*this)[work.index].state;
  const int64_t rows = context_.options().context_size + int64_t{1};
  state.tokens = tokens_ + work.index * rows;
  state.index_bits = index.bits;
  state.latest = latest_ + (static_cast<int64_t>(work.index) * kMaxKeyLength << index_bits_);
  state.earlier = earlier_ + work.index * rows * kMaxKeyLength;
  device_.write(state.tokens, tokens.data(), tokens.size() * sizeof(Token));
  device_.write(state.latest, index.latest, (kMaxKeyLength * sizeof(int32_t)) << index.bits);
  if (tokens.size() > 1) device_.write(state.earlier, index.earlier, tokens.size() * kMaxKeyLength * sizeof(int32_t));
}

void DeviceLanes::upload_state(const LaneWork& work) {
  LaneState& state = (*this)[work.index].state;
  state.position = work.lane->position();
  state.budget = clamped_budget(work.budget);
  state.stop_at_end = work.stop_at_end ? 1 : 0;
  state.ended = 0;
  state.prompt_size = work.lane->prompt_size();
  state.draft_mode = work.draft_mode;
  state.seed = work.seed;
  device_.write(states_ + work.index, &state, sizeof(state));
}

// Writes the lane's part of the graph's inputs. write_lane_inputs() makes it in host memory first, for a pass that has
// only this lane.
void DeviceLanes::upload_inputs(const LaneGroup& group, size_t b) {
  const LaneWork& work = group.lanes[b];
  const DeviceLane& on_device = (*this)[work.index];
  const LaneState& state = on_device.state;
  const PassShape lane_shape{1, group.shape.candidates, group.shape.block};
  const auto block = work.lane->block(lane_shape.block, work.seed, work.draft_mode);
  std::vector<Token> blocks(block.begin(), block.end());
  blocks.resize(static_cast<size_t>(lane_shape.rows()));
  draft_candidates(work.lane->tokens().data(), state.position + 1, work.lane->index(), state.prompt_size, state.seed,
                   lane_shape.candidates, lane_shape.block, blocks.data());
  device_.write(arrays_of(group).stood + b * block.size(), work.lane->stood().data(), block.size());

  const auto rows = static_cast<size_t>(lane_shape.rows());
  const GraphInputs& inputs = on_device.graph->inputs;
  const auto parts = static_cast<size_t>(inputs.position_parts);
  staged_words_.assign((1 + parts) * rows, 0);
  GraphInputs staged = inputs;
  staged.tokens = staged_words_.data();
  if (inputs.positions != nullptr) staged.positions = staged_words_.data() + rows;
  staged.full = stage(inputs.full, rows, staged_full_);
  staged.windowed = stage(inputs.windowed, rows, staged_windowed_);
  staged.first_stream = inputs.first_stream + static_cast<int32_t>(b);
  write_lane_inputs(lane_shape, staged, on_device.scratch, 0, state, blocks.data());
  device_.write(inputs.tokens + b * rows, staged.tokens, rows * sizeof(Token));
  for (size_t part = 0; inputs.positions != nullptr && part < parts; part++) {
    const size_t pass_rows = static_cast<size_t>(group.shape.rows());
    device_.write(inputs.positions + part * pass_rows + b * rows, staged.positions + part * rows,
                  rows * sizeof(int32_t));
  }
  upload_attention(inputs.full, staged.full, b, rows);
  upload_attention(inputs.windowed, staged.windowed, b, rows);
  if (inputs.states.rows != nullptr) {
    const int32_t row = inputs.states.row(on_device.plane, work.index);
    device_.write(inputs.states.rows + b, &row, sizeof(row));
  }
}

// The same inputs with arrays for one lane in host memory.
AttentionInputs DeviceLanes::stage(const AttentionInputs& inputs, size_t rows, Staged& staged) const {
  AttentionInputs host = inputs;
  if (inputs.k_rows == nullptr) return host;
  staged.rows.resize(rows * (1 + v_elements(inputs)));
  staged.mask.resize(rows * mask_row_bytes(inputs) / sizeof(uint64_t) + 1);
  host.k_rows = staged.rows.data();
  host.v_rows = staged.rows.data() + rows;
  host.mask = staged.mask.data();
  return host;
}

void DeviceLanes::upload_attention(const AttentionInputs& to, const AttentionInputs& from, size_t b, size_t rows) {
  if (to.k_rows == nullptr) return;
  const size_t v_rows = rows * v_elements(to), mask_bytes = rows * mask_row_bytes(to);
  device_.write(to.k_rows + b * rows, from.k_rows, rows * sizeof(int64_t));
  device_.write(to.v_rows + b * v_rows, from.v_rows, v_rows * sizeof(int64_t));
  device_.write(static_cast<char*>(to.mask) + b * mask_bytes, from.mask, mask_bytes);
}

}  // namespace cllm
