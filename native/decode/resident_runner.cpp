#include "decode/resident_runner.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/ggml_guard.h"
#include "kernels/draft.h"

namespace cllm {

namespace {

constexpr int kMostIterations = 16;  // of a burst
constexpr int kVerdictWords = sizeof(Verdict) / sizeof(int32_t);
// A lane far behind the longest claims this many rows ahead: enough to last, without filling llama.cpp's books.
constexpr int kClaimAhead = 512;

}  // namespace

std::unique_ptr<ResidentRunner> ResidentRunner::create(Context& context, std::string& reason) {
  if (!context.model().info().can_roll_back) {
    reason = "the model's recurrent state cannot be rolled back";
    return nullptr;
  }
  std::unique_ptr<GraphBridge> bridge;
  try {
    GgmlGuard guard;
    bridge = GraphBridge::create(context.handle(), context.options().threads, context.threadpool(), reason);
  } catch (const std::exception& error) {
    reason = std::string("llama.cpp refused a graph of our own: ") + error.what();
  }
  if (bridge == nullptr) return nullptr;
  // Without it attention is a plain sum over the cells in their order: a candidate's rows, which lie elsewhere, would
  // be rounded otherwise than the same rows at their own place (seen in the last bit of 5 of 74,000 bytes).
  if (context.options().candidates > 1 && !bridge->flash_attention()) {
    reason = "candidates need flash attention";
    return nullptr;
  }
  try {
    auto device = bridge->make_device();
    return std::unique_ptr<ResidentRunner>(new ResidentRunner(context, std::move(bridge), std::move(device)));
  } catch (const std::exception& error) {
    reason = error.what();
    return nullptr;
  }
}

ResidentRunner::ResidentRunner(Context& context, std::unique_ptr<GraphBridge> bridge,
                               std::unique_ptr<KernelDevice> device)
    : context_(context),
      bridge_(std::move(bridge)),
      device_(std::move(device)),
      most_candidates_(context.options().candidates),
      max_block_(std::min(context.options().block_size, kLargestPart)),
      resident_(static_cast<size_t>(context.options().lanes)) {
  const auto lanes = static_cast<size_t>(context.options().lanes);
  const auto n = static_cast<size_t>(max_block_);
  const auto array = [&]<typename T>(T*& to, size_t count) {
    to = static_cast<T*>(device_->allocate(count * sizeof(T)));
  };
  array(choices_, lanes * static_cast<size_t>(most_candidates_) * n);
  array(verdicts_, lanes);
  array(states_, lanes);
  array(samplings_, lanes);
  const Sampling greedy;
  for (size_t lane = 0; lane < lanes; lane++) device_->write(samplings_ + lane, &greedy, sizeof(greedy));
  array(biases_, lanes);
  array(stood_, lanes * n);
  array(tokens_, lanes * (static_cast<size_t>(context.options().context_size) + 1));
  const auto& ends = context.model().end_of_generation();
  array(end_of_generation_, ends.size());
  device_->write(end_of_generation_, ends.data(), ends.size());
  const auto& tensors = bridge_->kv_tensors();
  array(kv_tensors_, tensors.size());
  device_->write(kv_tensors_, tensors.data(), tensors.size() * sizeof(KvTensor));
  ring_ = static_cast<int32_t*>(
      device_->allocate_ring(lanes * kMostIterations * sizeof(int32_t) * static_cast<size_t>(ring_words(max_block_))));
}

std::string ResidentRunner::reason() const {
  return std::string("one graph on the context's KV cache, draft check and roll-forward as kernels on the ") +
         (bridge_->on_cpu() ? "CPU" : "GPU");
}

bool ResidentRunner::fits(const PassShape& shape) const {
  // A block of one token has no draft, and so no candidates.
  const int most = shape.block > 1 ? most_candidates_ : 1;
  return shape.block <= max_block_ && shape.candidates <= most && shape.candidates * shape.block <= kLargestPart &&
         shape.rows() <= kLargestPass;
}

// --- taking lanes in
// ----------------------------------------------------------------------------------------------------

bool ResidentRunner::begin(std::span<const LaneRun> lanes, const PassShape& shape) {
  runs_.clear();
  for (const LaneRun& lane : lanes) {
    if (runs_.empty() || runs_.back().first + static_cast<int>(runs_.back().lanes.size()) != lane.index) {
      runs_.push_back({.first = lane.index});
    }
    runs_.back().lanes.push_back(lane);
  }
  for (Run& run : runs_) run.shape = {static_cast<int32_t>(run.lanes.size()), shape.candidates, shape.block};
  // A later run's graph may push out an earlier one's: then once more, with all of them in place.
  for (int attempt = 0; attempt < 2; attempt++) {
    const uint64_t epoch = bridge_->epoch();
    for (const Run& run : runs_) {
      if (!begin_run(run)) return false;
    }
    if (bridge_->epoch() == epoch) return true;
  }
  return false;
}

bool ResidentRunner::begin_run(const Run& run) {
  for (const LaneRun& lane : run.lanes) {
    lane.lane->block(run.shape.block, lane.seed, lane.draft_mode);
  }
  if (!claimed(run) && !claim(run)) return false;
  for (size_t b = 0; b < run.lanes.size(); b++) {
    const LaneRun& lane = run.lanes[b];
    const Resident& known = resident(lane.index);
    const LaneState& state = known.state;
    if (!(known.choosing == lane.choosing)) upload_choosing(lane);
    if (known.uploaded && known.revision == lane.lane->revision() && state.seed == lane.seed &&
        state.budget == std::min<int64_t>(lane.budget, INT32_MAX) && state.stop_at_end == (lane.stop_at_end ? 1 : 0) &&
        state.draft_mode == lane.draft_mode) {
      continue;
    }
    upload(run, b);
  }
  return true;
}

// Whether the lanes' rows and graph are still as the last burst left them, with room for one more block.
bool ResidentRunner::claimed(const Run& run) const {
  for (const LaneRun& lane : run.lanes) {
    const Resident& known = resident(lane.index);
    const int position = static_cast<int>(lane.lane->tokens().size()) - 1;
    const Held& held = known.held;
    if (known.graph == nullptr || held.first != run.first || held.shape.lanes != run.shape.lanes ||
        held.shape.candidates != run.shape.candidates || held.shape.block != run.shape.block ||
        held.epoch != bridge_->epoch() || known.touches != context_.touches(lane.index) ||
        position + run.shape.block > known.state.row_end) {
      return false;
    }
  }
  return true;
}

bool ResidentRunner::claim(const Run& run) {
  const int scratch = (run.shape.candidates - 1) * run.shape.block;
  int furthest = 0;
  for (const LaneRun& lane : run.lanes) {
    const int position = static_cast<int>(lane.lane->tokens().size()) - 1;
    if (context_.trim(lane.index, position) != position) return false;
    furthest = std::max(furthest, position);
  }
  // As many cells as llama_decode would attend to, so that a single token's attention is split over threads as there.
  const int64_t needed = (furthest + run.shape.block + scratch + 255) / 256 * 256;
  const int end = static_cast<int>(std::min(needed, bridge_->kv_size()));
  const int own_end = std::min(end - scratch, context_.options().context_size);
  if (furthest + run.shape.block > own_end) return false;
  std::vector<GraphBridge::Claim> claims;
  for (const LaneRun& lane : run.lanes) {
    const int position = static_cast<int>(lane.lane->tokens().size()) - 1;
    claims.push_back({position, std::min(end - position, std::max(kClaimAhead, end - furthest))});
  }
  ResidentGraph* graph = nullptr;
  std::string reason;
  try {
    GgmlGuard guard;
    graph = bridge_->prepare(run.shape, run.first, claims, reason);
  } catch (const std::exception&) {
    // Treated like any other refusal: HostRunner takes the lanes, whose rows are trimmed first.
  }
  for (size_t b = 0; b < run.lanes.size(); b++) {
    const int index = run.lanes[b].index;
    Resident& known = resident(index);
    context_.claimed(index, claims[b].position + claims[b].rows);
    known.held = {run.first, run.shape, bridge_->epoch()};
    known.graph = graph;
    known.scratch = {end - scratch};
    known.touches = context_.touches(index);
    known.state.row_end = std::min(claims[b].position + claims[b].rows, own_end);
    known.uploaded = false;
  }
  return graph != nullptr;
}

// Everything of one lane, through host memory: what write_lane_inputs makes of a pass with this lane alone.
void ResidentRunner::upload(const Run& run, size_t b) {
  const LaneRun& lane = run.lanes[b];
  Resident& known = resident(lane.index);
  const int n = run.shape.block;
  const auto& held = lane.lane->tokens();
  Token* device_tokens = tokens_ + static_cast<int64_t>(lane.index) * (context_.options().context_size + 1);
  device_->write(device_tokens, held.data(), held.size() * sizeof(Token));

  LaneState& state = known.state;
  state.position = static_cast<int32_t>(lane.lane->tokens().size()) - 1;
  state.budget = static_cast<int32_t>(std::min<int64_t>(lane.budget, INT32_MAX));
  state.stop_at_end = lane.stop_at_end ? 1 : 0;
  state.ended = 0;
  state.prompt_size = lane.lane->prompt_size();
  state.draft_mode = lane.draft_mode;
  state.tokens = device_tokens;
  state.seed = lane.seed;
  device_->write(states_ + lane.index, &state, sizeof(state));

  const auto block = lane.lane->block(n, lane.seed, lane.draft_mode);
  const int candidates = run.shape.candidates;
  std::vector<Token> tokens(block.begin(), block.end());
  tokens.resize(static_cast<size_t>(candidates) * block.size());
  draft_candidates(held.data(), state.position + 1, state.prompt_size, state.seed, candidates, n, tokens.data());
  device_->write(stood_ + static_cast<int64_t>(run.first) * max_block_ + static_cast<int64_t>(b) * n,
                 lane.lane->stood().data(), static_cast<size_t>(n));

  const PassShape alone{1, candidates, n};
  const auto rows = static_cast<size_t>(alone.rows());
  const GraphInputs& inputs = known.graph->inputs;
  const size_t v_rows = rows * static_cast<size_t>(std::max<int64_t>(1, inputs.v_width));
  const size_t mask_bytes = rows * static_cast<size_t>(inputs.n_kv) * (inputs.mask_f16 != 0 ? 2 : 4);
  staged_mask_.resize(mask_bytes / sizeof(uint64_t) + 1);
  staged_indices_.resize(rows + v_rows);
  staged_words_.resize(2 * rows);
  GraphInputs staged = inputs;
  staged.tokens = staged_words_.data();
  staged.positions = staged_words_.data() + rows;
  staged.k_rows = staged_indices_.data();
  staged.v_rows = staged_indices_.data() + rows;
  staged.mask = staged_mask_.data();
  staged.first_stream = inputs.first_stream + static_cast<int32_t>(b);
  write_lane_inputs(alone, staged, known.scratch, 0, state, tokens.data());
  device_->write(inputs.tokens + b * rows, staged.tokens, rows * sizeof(Token));
  if (inputs.positions != nullptr) {
    device_->write(inputs.positions + b * rows, staged.positions, rows * sizeof(int32_t));
  }
  device_->write(inputs.k_rows + b * rows, staged.k_rows, rows * sizeof(int64_t));
  device_->write(inputs.v_rows + b * v_rows, staged.v_rows, v_rows * sizeof(int64_t));
  device_->write(static_cast<char*>(inputs.mask) + b * mask_bytes, staged.mask, mask_bytes);
  known.revision = lane.lane->revision();
  known.uploaded = true;
}

void ResidentRunner::upload_choosing(const LaneRun& lane) {
  Resident& known = resident(lane.index);
  known.choosing = lane.choosing;
  device_->write(samplings_ + lane.index, &known.choosing.sampling, sizeof(Sampling));
  const float* place = nullptr;
  if (known.choosing.bias) {
    const size_t bytes = known.choosing.bias->size() * sizeof(float);
    if (known.bias == nullptr) known.bias = static_cast<float*>(device_->allocate(bytes));
    device_->write(known.bias, known.choosing.bias->data(), bytes);
    place = known.bias;
  }
  device_->write(biases_ + lane.index, &place, sizeof(place));
}

void ResidentRunner::set_candidate(int lane, int candidate, std::span<const Token> tokens) {
  const Resident& known = resident(lane);
  const int64_t row = (static_cast<int64_t>(lane - known.held.first) * known.held.shape.candidates + candidate) *
                      static_cast<int64_t>(tokens.size());
  device_->write(known.graph->inputs.tokens + row + 1, tokens.data() + 1, (tokens.size() - 1) * sizeof(Token));
}

// --- the loop
// -----------------------------------------------------------------------------------------------------------

PassResult ResidentRunner::iterate(int count) {
  outcomes_.clear();
  forward_milliseconds_ = 0;
  const bool logits = std::any_of(runs_.begin(), runs_.end(), [](const Run& run) {
    return std::any_of(run.lanes.begin(), run.lanes.end(), [](const LaneRun& lane) { return lane.wants_logits; });
  });
  const int most = logits ? 1 : std::min(count, kMostIterations);
  int done = 0;
  PassResult result = PassResult::kOk;
  for (; done < most && result == PassResult::kOk; done++) {
    if (done > 0 && device_->on_host() && all_stopped()) break;
    for (const Run& run : runs_) {
      result = compute(run);
      if (result != PassResult::kOk) break;
      enqueue_kernels(run, done);
    }
  }
  if (result == PassResult::kOk) {
    device_->wait();
    if (!replay(done)) result = PassResult::kFailed;
  }
  if (result != PassResult::kOk) {
    // What is on the device and what the lanes believe may differ: nothing of it is used again.
    for (const Run& run : runs_) {
      for (const LaneRun& lane : run.lanes) resident(lane.index).graph = nullptr;
    }
  }
  return result;
}

PassResult ResidentRunner::compute(const Run& run) {
  const auto started = std::chrono::steady_clock::now();
  auto status = GraphBridge::Status::kFailed;
  try {
    GgmlGuard guard;
    status = bridge_->compute(resident(run.first).graph);
  } catch (const std::exception&) {
    // kFailed
  }
  forward_milliseconds_ +=
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
  if (status == GraphBridge::Status::kOk) return PassResult::kOk;
  return status == GraphBridge::Status::kAborted ? PassResult::kAborted : PassResult::kFailed;
}

void ResidentRunner::enqueue_kernels(const Run& run, int slot) {
  const ResidentGraph& graph = *resident(run.first).graph;
  const ScratchRows scratch = resident(run.first).scratch;
  const int64_t vocab = context_.model().info().vocab_size;
  const auto first = static_cast<int64_t>(run.first);
  Token* choices = choices_ + first * most_candidates_ * max_block_;
  Verdict* verdicts = verdicts_ + first;
  uint8_t* stood = stood_ + first * max_block_;
  const int64_t rows_per_lane = static_cast<int64_t>(run.shape.candidates) * run.shape.block;
  const auto any = [&run](auto&& has) {
    return std::any_of(run.lanes.begin(), run.lanes.end(), [&](const LaneRun& lane) { return has(lane.choosing); });
  };
  if (any([](const Choosing& choosing) { return choosing.bias != nullptr; })) {
    device_->bias({.logits = graph.logits,
                   .rows = run.shape.rows(),
                   .vocab = vocab,
                   .stride = graph.logits_stride,
                   .rows_per_lane = rows_per_lane,
                   .biases = biases_ + first});
  }
  const bool samples = any([](const Choosing& choosing) { return choosing.sampling.temperature > 0; });
  device_->choose({.logits = graph.logits,
                   .rows = run.shape.rows(),
                   .vocab = vocab,
                   .stride = graph.logits_stride,
                   .choices = choices,
                   .sampling = samples ? samplings_ + first : nullptr,
                   .rows_per_lane = rows_per_lane,
                   .lanes = states_ + first,
                   .block = run.shape.block});
  device_->verify({.shape = run.shape,
                   .tokens = graph.inputs.tokens,
                   .choices = choices,
                   .stood = stood,
                   .end_of_generation = end_of_generation_,
                   .lanes = states_ + first,
                   .verdicts = verdicts});
  if (run.shape.candidates > 1) {
    device_->roll_forward({.shape = run.shape,
                           .verdicts = verdicts,
                           .tensors = kv_tensors_,
                           .count = static_cast<int32_t>(bridge_->kv_tensors().size()),
                           .first_stream = graph.inputs.first_stream,
                           .kv_size = graph.inputs.kv_size,
                           .scratch = scratch});
  }
  device_->advance({.shape = run.shape,
                    .choices = choices,
                    .verdicts = verdicts,
                    .lanes = states_ + first,
                    .stood = stood,
                    .inputs = graph.inputs,
                    .scratch = scratch,
                    .ring = ring(run),
                    .ring_slot = slot});
}

bool ResidentRunner::all_stopped() const {
  return std::all_of(runs_.begin(), runs_.end(), [this](const Run& run) {
    return std::none_of(run.lanes.begin(), run.lanes.end(),
                        [&](const LaneRun& lane) { return lane_runs(states_[lane.index], run.shape.block); });
  });
}

const float* ResidentRunner::read_logits(const Run& run, size_t b, int winner) {
  if (!run.lanes[b].wants_logits) return nullptr;
  const ResidentGraph& graph = *resident(run.first).graph;
  const auto vocab = static_cast<size_t>(context_.model().info().vocab_size);
  const auto n = static_cast<size_t>(run.shape.block);
  const size_t row = (b * static_cast<size_t>(run.shape.candidates) + static_cast<size_t>(winner)) * n;
  std::vector<float>& rows = logits_.emplace_back(n * vocab);
  for (size_t j = 0; j < n; j++) {
    device_->read(&rows[j * vocab], graph.logits + static_cast<int64_t>(row + j) * graph.logits_stride,
                  vocab * sizeof(float));
  }
  return rows.data();
}

int32_t* ResidentRunner::ring(const Run& run) const {
  return ring_ + static_cast<int64_t>(run.first) * kMostIterations * ring_words(max_block_);
}

// Brings the Lanes to where the device is, by the same rules, and makes sure that both came to the same.
bool ResidentRunner::replay(int count) {
  size_t total = 0;
  for (const Run& run : runs_) total += run.lanes.size() * static_cast<size_t>(count);
  iterations_.resize(std::max(iterations_.size(), total));
  const uint8_t* ends = context_.model().end_of_generation().data();
  size_t used = 0;
  logits_.clear();
  for (int slot = 0; slot < count; slot++) {
    for (Run& run : runs_) {
      const int n = run.shape.block;
      for (size_t b = 0; b < run.lanes.size(); b++) {
        LaneRun& lane = run.lanes[b];
        Resident& known = resident(lane.index);
        const int32_t* record =
            ring(run) + (static_cast<int64_t>(slot) * run.shape.lanes + static_cast<int64_t>(b)) * ring_words(n);
        Verdict verdict;
        std::memcpy(static_cast<void*>(&verdict), record, sizeof(verdict));
        if (verdict.emitted == 0) continue;
        const std::span<const Token> block(record + kVerdictWords, static_cast<size_t>(n));
        const std::span<const Token> choices(block.data() + n, static_cast<size_t>(n));
        if (verdict.winner != 0) lane.lane->take_candidate(block);
        const Iteration& iteration = lane.lane->advance(choices, lane.budget, lane.stop_at_end ? ends : nullptr);
        if (iteration.position != verdict.position || iteration.accepted != verdict.accepted ||
            iteration.emitted != verdict.emitted || iteration.stationary != verdict.stationary ||
            !std::equal(block.begin(), block.end(), iteration.block.begin(), iteration.block.end())) {
          return false;
        }
        lane.budget -= iteration.emitted;
        lane.lane->block(n, lane.seed, lane.draft_mode);
        known.revision = lane.lane->revision();
        known.state.position += iteration.emitted;
        known.state.budget = static_cast<int32_t>(std::min<int64_t>(lane.budget, INT32_MAX));
        // A lane that stops there keeps its inputs on the device: they are not the Lane's next block.
        if (verdict.ended != 0 || known.state.budget == 0) known.uploaded = false;
        iterations_[used] = iteration;
        iterations_[used].candidates = run.shape.candidates;
        outcomes_.push_back({lane.index, &iterations_[used++], read_logits(run, b, verdict.winner)});
      }
    }
  }
  return true;
}

}  // namespace cllm
