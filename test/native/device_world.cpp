#include "device_world.h"

#include <algorithm>
#include <array>
#include <bit>
#include <tuple>

namespace cllm {

namespace {

constexpr int32_t kPromptSize = 37;
// Rows that can be copied one, two, four and sixteen bytes at a time, and transposed tensors of each element size.
constexpr int64_t kRowBytes[] = {35, 34, 36, 256, 0, 0};
constexpr int32_t kElementBytes[] = {0, 0, 0, 0, 2, 4};
constexpr int32_t kWidth = 6;
constexpr size_t kStateBytes[] = {12, 64};

/// The history has few different tokens, so that keys of every length occur again.
constexpr int64_t kHistoryVocab = 6;

size_t history_size(const WorldOptions& options) { return static_cast<size_t>(options.n_kv) + 1; }

size_t latest_size(int32_t bits) { return static_cast<size_t>(kMaxKeyLength) << bits; }

size_t rows_of(const PassShape& shape) { return static_cast<size_t>(shape.rows()); }

std::vector<Token> random_tokens(size_t count, int64_t vocab, uint64_t seed) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::vector<Token> values(count);
  for (auto& value : values) value = static_cast<Token>(random() % static_cast<uint64_t>(vocab));
  return values;
}

std::vector<char> random_bytes(size_t count, uint64_t seed) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::vector<char> values(count);
  for (auto& value : values) value = static_cast<char>(random());
  return values;
}

std::vector<uint8_t> random_ends(const WorldOptions& options) {
  std::mt19937 random(static_cast<uint32_t>(options.seed) + 3);
  std::bernoulli_distribution end(options.end_share);
  std::vector<uint8_t> values(static_cast<size_t>(options.vocab));
  for (auto& value : values) value = end(random);
  return values;
}

size_t kv_bytes(const WorldOptions& options, size_t layer) {
  if (options.shape.candidates == 1) return 0;  // nothing is rolled forward
  const int64_t cells = options.kv_size * (options.first_stream + options.shape.lanes);
  return static_cast<size_t>(kRowBytes[layer] > 0 ? cells * kRowBytes[layer] : cells * kWidth * kElementBytes[layer]);
}

std::vector<DeviceArray<char>> make_kv(KernelDevice& device, const WorldOptions& options) {
  std::vector<DeviceArray<char>> arrays;
  for (size_t layer = 0; layer < std::size(kRowBytes); layer++) {
    arrays.emplace_back(device, random_bytes(kv_bytes(options, layer), options.seed + layer));
  }
  return arrays;
}

// States of lanes first_stream .. first_stream + B - 1 of a context that has one lane more.
int32_t state_lanes(const WorldOptions& options) { return options.first_stream + options.shape.lanes + 1; }
int32_t spare_plane(const WorldOptions& options) { return options.shape.block + options.spare_planes - 1; }

std::vector<DeviceArray<char>> make_states(KernelDevice& device, const WorldOptions& options) {
  std::vector<DeviceArray<char>> arrays;
  const auto rows = static_cast<size_t>((spare_plane(options) + 1) * state_lanes(options));
  for (const size_t bytes : kStateBytes) {
    if (options.states) arrays.emplace_back(device, random_bytes(rows * bytes, options.seed + bytes));
  }
  return arrays;
}

std::vector<StateTensor> describe_states(const std::vector<DeviceArray<char>>& arrays) {
  std::vector<StateTensor> tensors;
  for (size_t i = 0; i < arrays.size(); i++) {
    tensors.push_back({arrays[i].data, static_cast<int64_t>(kStateBytes[i])});
  }
  return tensors;
}

AttentionInputs sizes_of(const WorldOptions& options, Window window, int64_t n_kv, int64_t kv_size) {
  AttentionInputs sizes;
  sizes.mask_f16 = options.mask_f16;
  sizes.window = window;
  sizes.n_kv = n_kv;
  sizes.kv_size = kv_size;
  sizes.v_width = options.v_width;
  return sizes;
}

std::vector<KvTensor> describe(const std::vector<DeviceArray<char>>& arrays) {
  std::vector<KvTensor> tensors;
  for (size_t layer = 0; layer < arrays.size(); layer++) {
    tensors.push_back({arrays[layer].data, kRowBytes[layer], kElementBytes[layer], kRowBytes[layer] > 0 ? 0 : kWidth});
  }
  return tensors;
}

}  // namespace

World::World(KernelDevice& device, const WorldOptions& options)
    : device(device),
      options(options),
      scratch{static_cast<int32_t>(options.n_kv -
                                   static_cast<int64_t>(options.shape.candidates - 1) * options.shape.block)},
      index_bits(TextIndex::bits_for(options.n_kv)),
      history(device, random_tokens(static_cast<size_t>(options.shape.lanes) * history_size(options),
                                    std::min<int64_t>(options.vocab, kHistoryVocab), options.seed + 1)),
      tokens(device, random_tokens(rows_of(options.shape), options.vocab, options.seed + 2)),
      choices(device, std::vector<Token>(rows_of(options.shape))),
      latest(device, std::vector<int32_t>(static_cast<size_t>(options.shape.lanes) * latest_size(index_bits))),
      earlier(device, std::vector<int32_t>(history.host.size() * kMaxKeyLength)),
      positions(device, std::vector<int32_t>(rows_of(options.shape) * static_cast<size_t>(options.position_parts))),
      full(device, options.shape, sizes_of(options, {}, options.n_kv, options.kv_size)),
      windowed(device, options.shape, sizes_of(options, options.window, options.window_cells, options.window_cells)),
      state_rows(device, std::vector<int32_t>(options.states ? static_cast<size_t>(options.shape.lanes) : 0)),
      stood(device, std::vector<uint8_t>(static_cast<size_t>(options.shape.lanes) * options.shape.block)),
      ends(device, random_ends(options)),
      lanes(device, std::vector<LaneState>(static_cast<size_t>(options.shape.lanes))),
      verdicts(device, std::vector<Verdict>(static_cast<size_t>(options.shape.lanes))),
      kv(make_kv(device, options)),
      kv_tensors(describe(kv)),
      kv_table(device, kv_tensors),
      states(make_states(device, options)),
      state_table(device, describe_states(states)),
      ring_host(static_cast<size_t>(options.iterations) * options.shape.lanes * ring_words(options.shape.block)),
      ring(static_cast<uint64_t*>(device.allocate_shared(ring_host.size() * sizeof(uint64_t)))),
      loop_state(device, std::vector<LoopState>(1)),
      loop{loop_state.data, static_cast<uint32_t*>(device.allocate_shared(sizeof(uint32_t))), options.shape.lanes} {
  *loop.limit = static_cast<uint32_t>(options.iterations);
  write_inputs();
}

AttentionArrays::AttentionArrays(KernelDevice& device, const PassShape& shape, const AttentionInputs& sizes)
    : sizes(sizes),
      k_rows(device, std::vector<int64_t>(sizes.n_kv > 0 ? rows_of(shape) : 0)),
      v_rows(device, std::vector<int64_t>(k_rows.host.size() * std::max<int64_t>(1, sizes.v_width))),
      mask(device, std::vector<char>(rows_of(shape) * static_cast<size_t>(sizes.n_kv) * (sizes.mask_f16 ? 2 : 4))) {}

AttentionInputs AttentionArrays::on_host() {
  AttentionInputs inputs = sizes;
  if (sizes.n_kv == 0) return inputs;
  inputs.k_rows = k_rows.host.data();
  inputs.v_rows = v_rows.host.data();
  inputs.mask = mask.host.data();
  return inputs;
}

AttentionInputs AttentionArrays::on_device() const {
  AttentionInputs inputs = sizes;
  if (sizes.n_kv == 0) return inputs;
  inputs.k_rows = k_rows.data;
  inputs.v_rows = v_rows.data;
  inputs.mask = mask.data;
  return inputs;
}

void AttentionArrays::upload() {
  k_rows.upload();
  v_rows.upload();
  mask.upload();
}

GraphInputs World::inputs_without_arrays() const {
  GraphInputs inputs;
  inputs.position_parts = std::max(1, options.position_parts);
  inputs.first_stream = options.first_stream;
  inputs.states.lanes = state_lanes(options);
  inputs.states.spare_plane = spare_plane(options);
  return inputs;
}

GraphInputs World::host_inputs() {
  GraphInputs inputs = inputs_without_arrays();
  inputs.tokens = tokens.host.data();
  if (options.position_parts > 0) inputs.positions = positions.host.data();
  inputs.full = full.on_host();
  inputs.windowed = windowed.on_host();
  return inputs;
}

GraphInputs World::device_inputs() const {
  GraphInputs inputs = inputs_without_arrays();
  inputs.tokens = tokens.data;
  if (options.position_parts > 0) inputs.positions = positions.data;
  inputs.full = full.on_device();
  inputs.windowed = windowed.on_device();
  if (options.states) inputs.states.rows = state_rows.data;
  return inputs;
}

const char* World::input_unlike_first() {
  const auto [lane_count, candidates, block] = options.shape;
  const auto before = std::tuple(positions.host, full.k_rows.host, full.v_rows.host, full.mask.host,
                                 windowed.k_rows.host, windowed.v_rows.host, windowed.mask.host);
  const std::vector<Token> blocks = tokens.host;
  for (int32_t b = 0; b < lane_count; b++) {
    const LaneState& lane = lanes.host[static_cast<size_t>(b)];
    if (!lane_runs(lane, block)) continue;
    write_lane_inputs(options.shape, host_inputs(), scratch, b, lane,
                      blocks.data() + static_cast<size_t>(b) * candidates * block);
  }
  if (positions.host != std::get<0>(before)) return "positions";
  if (full.k_rows.host != std::get<1>(before)) return "k_rows";
  if (full.v_rows.host != std::get<2>(before)) return "v_rows";
  if (full.mask.host != std::get<3>(before)) return "mask";
  if (windowed.k_rows.host != std::get<4>(before)) return "k_rows of layers with a window";
  if (windowed.v_rows.host != std::get<5>(before)) return "v_rows of layers with a window";
  return windowed.mask.host != std::get<6>(before) ? "mask of layers with a window" : nullptr;
}

// Makes state and inputs on the host and writes them to the device, as the runner does when lanes join.
void World::write_inputs() {
  const auto [lane_count, candidates, block] = options.shape;
  std::mt19937 random(static_cast<uint32_t>(options.seed) + 4);
  const auto below = [&](int64_t limit) { return static_cast<int32_t>(random() % static_cast<uint64_t>(limit)); };
  for (int32_t b = 0; b < lane_count; b++) {
    LaneState& lane = lanes.host[static_cast<size_t>(b)];
    lane.position = below(std::max(1, scratch.first / 2 - block));
    // Some lanes reach the end of their rows, some use up their budget, and some start without rows or budget.
    lane.row_end = std::min(scratch.first, lane.position + block + below(options.max_budget + 8) - 2);
    lane.budget = below(8) == 0 ? 0 : 1 + below(options.max_budget);
    lane.stop_at_end = below(4) != 0;
    lane.prompt_size = 1 + below(std::min(kPromptSize, lane.position + 1));
    lane.draft_mode = below(5);
    const size_t lane_history = static_cast<size_t>(b) * history_size(options);
    lane.tokens = history.data + lane_history;
    lane.index_bits = index_bits;
    lane.latest = latest.data + static_cast<size_t>(b) * latest_size(index_bits);
    lane.earlier = earlier.data + lane_history * kMaxKeyLength;
    TextIndex index(options.n_kv);
    index.grow(history.host.data() + lane_history, lane.position + 1);
    const PlaceIndex& view = index.view();
    std::copy_n(view.latest, latest_size(index_bits),
                latest.host.data() + static_cast<size_t>(b) * latest_size(index_bits));
    std::copy_n(view.earlier, index.places() > 1 ? (lane.position + 1) * kMaxKeyLength : 0,
                earlier.host.data() + lane_history * kMaxKeyLength);
    lane.seed = random();
    Token* first = tokens.host.data() + static_cast<size_t>(b) * candidates * block;
    first[0] = history.host[static_cast<size_t>(b) * history_size(options) + static_cast<size_t>(lane.position)];
    for (int32_t c = 1; c < candidates; c++) first[static_cast<size_t>(c) * block] = first[0];
    for (int32_t j = 1; j < block; j++) stood.host[static_cast<size_t>(b) * block + j] = below(2);
  }
  const std::vector<Token> blocks = tokens.host;
  for (int32_t b = 0; b < lane_count; b++) {
    write_lane_inputs(options.shape, host_inputs(), scratch, b, lanes.host[static_cast<size_t>(b)],
                      blocks.data() + static_cast<size_t>(b) * candidates * block);
  }
  tokens.upload();
  latest.upload();
  earlier.upload();
  positions.upload();
  full.upload();
  windowed.upload();
  for (int32_t b = 0; options.states && b < lane_count; b++) {
    state_rows.host[static_cast<size_t>(b)] =
        inputs_without_arrays().states.row(below(block), options.first_stream + b);
  }
  state_rows.upload();
  stood.upload();
  lanes.upload();
}

std::vector<Token> World::make_choices(World& source, std::mt19937& random) {
  const std::vector<Token>& blocks = source.tokens.download();
  const auto block = static_cast<size_t>(options.shape.block);
  std::vector<Token> values(blocks.size());
  uint32_t wrong = 0;  // one draft in this many is wrong; it varies by block, so that long drafts are accepted too
  for (size_t r = 0; r < values.size(); r++) {
    if (r % block == 0) wrong = 4u << random() % 6;
    const bool last = r % block == block - 1;
    const bool right = !last && random() % wrong != 0;
    // A wrong choice is mostly one of the history's tokens, so that it can be looked up.
    const auto vocab =
        static_cast<uint64_t>(random() % 4 != 0 ? std::min(options.vocab, kHistoryVocab) : options.vocab);
    values[r] = right ? blocks[r + 1] : static_cast<Token>(random() % vocab);
  }
  // All candidates begin with the same token, so they have the same first choice, taken from one of them at random.
  const auto span = block * static_cast<size_t>(options.shape.candidates);
  for (size_t first = 0; first < values.size(); first += span) {
    const Token choice = values[first + random() % span / block * block];
    for (size_t r = first; r < first + span; r += block) values[r] = choice;
  }
  return values;
}

RollForwardArgs World::roll_forward_args() const {
  RollForwardArgs args;
  args.shape = options.shape;
  args.verdicts = verdicts.data;
  args.tensors = kv_table.data;
  args.count = static_cast<int32_t>(kv_tensors.size());
  args.first_stream = options.first_stream;
  args.kv_size = options.kv_size;
  args.scratch = scratch;
  return args;
}

AdvanceArgs World::advance_args() const {
  AdvanceArgs args;
  args.shape = options.shape;
  args.choices = choices.data;
  args.end_of_generation = options.end_share > 0 ? ends.data : nullptr;
  args.verdicts = verdicts.data;
  args.lanes = lanes.data;
  args.stood = stood.data;
  args.inputs = device_inputs();
  args.scratch = scratch;
  args.ring = {ring, static_cast<uint32_t>(options.iterations)};
  args.loop = loop;
  return args;
}

void World::iterate() {
  device.advance(advance_args());
  if (options.shape.candidates > 1) device.roll_forward(roll_forward_args());
  if (options.states) device.keep_state(keep_state_args());
}

KeepStateArgs World::keep_state_args() const {
  KeepStateArgs args;
  args.shape = options.shape;
  args.verdicts = verdicts.data;
  args.lanes = lanes.data;
  args.tensors = state_table.data;
  args.count = static_cast<int32_t>(states.size());
  args.first_lane = options.first_stream;
  args.states = device_inputs().states;
  return args;
}

World::State World::state() {
  device.wait();
  State parts;
  const auto add = [&](const char* name, const auto& values) {
    const auto* bytes = reinterpret_cast<const char*>(values.data());
    parts.emplace_back(name, std::vector<char>(bytes, bytes + values.size() * sizeof(values[0])));
  };
  add("tokens", tokens.download());
  add("positions", positions.download());
  add("k_rows", full.k_rows.download());
  add("v_rows", full.v_rows.download());
  add("mask", full.mask.download());
  add("k_rows of layers with a window", windowed.k_rows.download());
  add("v_rows of layers with a window", windowed.v_rows.download());
  add("mask of layers with a window", windowed.mask.download());
  add("state rows", state_rows.download());
  for (auto& tensor : states) add("states", tensor.download());
  add("stood", stood.download());
  add("verdicts", verdicts.download());
  auto states = lanes.download();
  for (auto& lane : states) {
    lane.tokens = nullptr;
    lane.latest = lane.earlier = nullptr;
  }
  add("lanes", states);
  add("history", history.download());
  add("latest places", latest.download());
  add("earlier places", earlier.download());
  add("loop", loop_state.download());
  for (auto& tensor : kv) add("KV rows", tensor.download());
  std::memcpy(ring_host.data(), ring, ring_host.size() * sizeof(uint64_t));
  add("ring", ring_host);
  return parts;
}

Verdict World::verdict_at(size_t word) const {
  std::array<int32_t, kVerdictWords> values;
  for (int32_t& value : values) value = static_cast<int32_t>(ring_host[word++]);
  return std::bit_cast<Verdict>(values);
}

std::string difference_of(const World::State& found, const World::State& expected) {
  for (size_t part = 0; part < found.size(); part++) {
    const auto& [name, bytes] = found[part];
    const auto at = std::mismatch(bytes.begin(), bytes.end(), expected[part].second.begin()).first;
    if (at != bytes.end()) return std::string(name) + " differ at byte " + std::to_string(at - bytes.begin());
  }
  return "";
}

}  // namespace cllm
