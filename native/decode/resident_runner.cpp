#include "decode/resident_runner.h"

#include <algorithm>

#include "base/ggml_guard.h"
#include "base/limits.h"

namespace cllm {

namespace {

// A lane far behind the longest one claims this many rows ahead: they last for a while and do not fill llama.cpp's
// bookkeeping.
constexpr int kClaimAhead = 512;

}  // namespace

std::unique_ptr<ResidentRunner> ResidentRunner::create(Context& context, std::string& reason,
                                                       std::unique_ptr<KernelDevice> device) {
  std::unique_ptr<GraphBridge> bridge;
  try {
    GgmlGuard guard;
    bridge = GraphBridge::create(context.handle(), context.threadpool(), reason);
  } catch (const std::exception& error) {
    reason = std::string("llama.cpp refused a graph of our own: ") + error.what();
  }
  if (bridge == nullptr) return nullptr;
  if (context.options().candidates > 1 && context.states() != nullptr) {
    reason = "candidates of a lane cannot share its recurrent state";
    return nullptr;
  }
  if (context.states() != nullptr &&
      static_cast<int>(llama_n_rs_seq(context.handle())) < context.options().block_size) {
    reason = "it keeps no snapshot of the model's recurrent state beside those of a block";
    return nullptr;
  }
  // Without flash attention the cells are summed in their order: a candidate's rows, which lie elsewhere, would be
  // rounded differently from the same rows at their own place (seen in the last bit of 5 of 74,000 bytes).
  if (context.options().candidates > 1 && !bridge->flash_attention()) {
    reason = "candidates need flash attention";
    return nullptr;
  }
  try {
    if (device == nullptr) device = bridge->make_device();
    return std::unique_ptr<ResidentRunner>(new ResidentRunner(context, std::move(bridge), std::move(device)));
  } catch (const std::exception& error) {
    reason = error.what();
    return nullptr;
  }
}

ResidentRunner::ResidentRunner(Context& context, std::unique_ptr<GraphBridge> bridge,
                               std::unique_ptr<KernelDevice> device)
    : context_(context), bridge_(std::move(bridge)), device_(std::move(device)), lanes_(context, *device_, *bridge_) {}

ResidentRunner::~ResidentRunner() {
  recordings_.clear();  // before their device
}

std::string ResidentRunner::reason() const {
  return std::string("one graph on the context's KV cache, draft check and roll-forward as kernels on the ") +
         (bridge_->on_cpu() ? "CPU" : "GPU");
}

bool ResidentRunner::fits(const PassShape& shape) const {
  // A block of one token has no draft, and so no candidates.
  const int max_candidates = shape.block > 1 ? context_.options().candidates : 1;
  return shape.block <= lanes_.max_block() && shape.candidates <= max_candidates &&
         shape.candidates * shape.block <= kMaxPartTokens && shape.rows() <= context_.max_pass_tokens();
}

// --- making lanes resident

bool ResidentRunner::make_resident(std::span<const LaneWork> lanes, const PassShape& shape) {
  groups_.clear();
  for (const LaneWork& work : lanes) {
    if (groups_.empty() || groups_.back().first + static_cast<int>(groups_.back().lanes.size()) != work.index) {
      groups_.push_back({.first = work.index});
    }
    groups_.back().lanes.push_back(work);
  }
  for (LaneGroup& group : groups_) {
    group.shape = {static_cast<int32_t>(group.lanes.size()), shape.candidates, shape.block};
    group.left.assign(group.lanes.size(), false);
  }
  // A later group's graph may push out that of an earlier group. The second attempt finds all graphs in place.
  for (int attempt = 0; attempt < 2; attempt++) {
    const uint64_t epoch = bridge_->epoch();
    for (const LaneGroup& group : groups_) {
      if (!make_group_resident(group)) return false;
    }
    if (bridge_->epoch() == epoch) return true;
  }
  return false;
}

bool ResidentRunner::make_group_resident(const LaneGroup& group) {
  for (const LaneWork& work : group.lanes) work.lane->block(group.shape.block, work.seed, work.draft_mode);
  if (!is_claimed(group) && !claim(group)) return false;
  for (size_t b = 0; b < group.lanes.size(); b++) lanes_.upload(group, b);
  return true;
}

// Whether the lanes' rows and graph are still as the last burst left them, with room for one more block.
bool ResidentRunner::is_claimed(const LaneGroup& group) const {
  return std::all_of(group.lanes.begin(), group.lanes.end(), [&](const LaneWork& work) {
    const DeviceLane& on_device = lanes_[work.index];
    return on_device.graph != nullptr && on_device.group_first == group.first && on_device.group_shape == group.shape &&
           on_device.epoch == bridge_->epoch() && on_device.touches == context_.touches(work.index) &&
           work.lane->position() + group.shape.block <= on_device.state.row_end;
  });
}

bool ResidentRunner::claim(const LaneGroup& group) {
  const int scratch = (group.shape.candidates - 1) * group.shape.block;
  // A lane with a recurrent state needs a row more, see LaneState::row_end.
  const int spare_rows = context_.states() != nullptr ? 1 : 0;
  int furthest = 0;
  for (const LaneWork& work : group.lanes) {
    const int position = work.lane->position();
    if (context_.trim(work.index, position) != position) return false;
    // A recurrent state is zeroed by the first pass of llama_decode.
    if (context_.states() != nullptr && position == 0) return false;
    furthest = std::max(furthest, position);
  }
  // The graph attends to as many cells as llama_decode would. So a single token's attention is split over threads as
  // there.
  const int64_t attended = padded_cells(furthest + group.shape.block + scratch + spare_rows);
  const int end = static_cast<int>(std::min(attended, bridge_->kv_size()));
  const int row_end = std::min(end - scratch - spare_rows, context_.options().context_size);
  std::vector<GraphBridge::CellRange> cells;
  for (const LaneWork& work : group.lanes) {
    const int position = work.lane->position();
    const int ahead = std::max(kClaimAhead, end - furthest);
    const int rows = static_cast<int>(std::min<int64_t>(ahead, bridge_->claimable(position)));
    cells.push_back({position, std::min(end, position + rows)});
    if (position + group.shape.block > std::min(cells.back().end - spare_rows, row_end)) return false;
  }
  ResidentGraph* graph = nullptr;
  std::string reason;
  try {
    GgmlGuard guard;
    graph = bridge_->prepare(group.shape, group.first, cells, reason);
  } catch (const std::exception&) {
    // The failure is treated like any other refusal: HostRunner takes the lanes, whose rows are trimmed first.
  }
  for (size_t b = 0; b < group.lanes.size(); b++) {
    const int index = group.lanes[b].index;
    context_.claimed(index, cells[b].end);
    DeviceLane& on_device = lanes_[index];
    on_device.group_first = group.first;
    on_device.group_shape = group.shape;
    on_device.graph = graph;
    on_device.epoch = bridge_->epoch();
    on_device.touches = context_.touches(index);
    on_device.scratch = {end - scratch};
    on_device.state.row_end = std::min(cells[b].end - spare_rows, row_end);
    if (context_.states() != nullptr) on_device.plane = context_.states()->plane(index);
    on_device.uploaded = false;
  }
  return graph != nullptr;
}

void ResidentRunner::set_candidate(int lane, int candidate, std::span<const Token> tokens) {
  const DeviceLane& on_device = lanes_[lane];
  const int64_t blocks_before =
      static_cast<int64_t>(lane - on_device.group_first) * on_device.group_shape.candidates + candidate;
  Token* block = on_device.graph->inputs.tokens + blocks_before * std::ssize(tokens);
  device_->write(block + 1, tokens.data() + 1, (tokens.size() - 1) * sizeof(Token));
}

}  // namespace cllm
