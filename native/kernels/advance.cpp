#include "kernels/advance.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/limits.h"
#include "kernels/draft.h"

namespace cllm {

namespace {

/// One row of the mask, whose cells can be shown or hidden.
class MaskRow {
 public:
  MaskRow(const GraphInputs& inputs, int64_t row) : f16_(inputs.mask_f16 != 0) {
    if (f16_) {
      half_ = static_cast<uint16_t*>(inputs.mask) + row * inputs.n_kv;
    } else {
      single_ = static_cast<float*>(inputs.mask) + row * inputs.n_kv;
    }
  }
  void show(int64_t first, int64_t end) { fill(first, end, true); }
  void hide(int64_t first, int64_t end) { fill(first, end, false); }

 private:
  void fill(int64_t first, int64_t end, bool visible) {
    for (int64_t i = first; i < end; i++) {
      if (f16_) {
        half_[i] = visible ? 0 : 0xFC00;  // -inf
      } else {
        single_[i] = visible ? 0.0f : -INFINITY;
      }
    }
  }

  bool f16_;
  uint16_t* half_ = nullptr;
  float* single_ = nullptr;
};

void write_rows(const GraphInputs& inputs, int64_t row, int64_t stream, int64_t cell) {
  inputs.k_rows[row] = stream * inputs.kv_size + cell;
  if (inputs.v_width == 0) {
    inputs.v_rows[row] = inputs.k_rows[row];
    return;
  }
  for (int64_t e = 0; e < inputs.v_width; e++) {
    inputs.v_rows[row * inputs.v_width + e] = (stream * inputs.v_width + e) * inputs.kv_size + cell;
  }
}

void write_record(const AdvanceArgs& args, int32_t b, const Verdict& verdict, const Token* block,
                  const Token* choices) {
  const int32_t n = args.shape.block;
  const uint32_t iteration = args.loop.state->iteration, stamp = ring_stamp(iteration);
  const int64_t slot = iteration % args.ring.slots;
  uint64_t* word = args.ring.words + (slot * args.shape.lanes + b) * ring_words(n);
  for (const int32_t value : std::bit_cast<std::array<int32_t, kVerdictWords>>(verdict)) {
    write_ring(word++, stamp, value);
  }
  for (int32_t j = 0; j < n; j++) write_ring(word++, stamp, block[j]);
  for (int32_t j = 0; j < n; j++) write_ring(word++, stamp, choices[j]);
}

void advance_lane(const AdvanceArgs& args, int32_t b) {
  const PassShape& shape = args.shape;
  const GraphInputs& inputs = args.inputs;
  const Verdict& verdict = args.verdicts[b];
  LaneState& lane = args.lanes[b];
  const int n = shape.block;
  const int64_t first = static_cast<int64_t>(b) * shape.candidates * n;
  const int64_t winner_row = first + static_cast<int64_t>(verdict.winner) * n;

  // The winner's block is copied, because it may be the own block, which is about to be overwritten.
  const Token* choices = args.choices + winner_row;
  Token block[kMaxBlockSize];
  std::copy_n(inputs.tokens + winner_row, n, block);
  write_record(args, b, verdict, block, choices);

  if (verdict.emitted == 0) return;
  const int32_t p = lane.position;
  for (int32_t i = 0; i < verdict.emitted; i++) lane.tokens[p + 1 + i] = choices[i];
  lane.position = p + verdict.emitted;
  lane.budget -= verdict.emitted;
  lane.ended |= verdict.ended;
  if (!lane_runs(lane, n)) return;

  for (int32_t place = p + 1; place <= lane.position; place++) add_place(lane.index(), lane.tokens, place);
  Token* own_block = inputs.tokens + first;
  own_block[0] = choices[verdict.emitted - 1];
  const int kept = n - verdict.emitted;
  for (int j = 1; j <= kept; j++) own_block[j] = choices[verdict.emitted - 1 + j];
  const int32_t next = lane.position;
  complete_draft(lane.tokens, next + 1, lane.index(), lane.prompt_size, lane.seed,
                 static_cast<DraftMode>(lane.draft_mode), kept, n, own_block);
  mark_stood(block, n, verdict.emitted, own_block, n, args.stood + static_cast<int64_t>(b) * n);
  draft_candidates(lane.tokens, next + 1, lane.index(), lane.prompt_size, lane.seed, shape.candidates, n, own_block);
  const int64_t stream = static_cast<int64_t>(inputs.first_stream) + b;
  for (int32_t c = 0; c < shape.candidates; c++) {
    for (int j = 0; j < n; j++) {
      const int64_t row = first + static_cast<int64_t>(c) * n + j;
      if (inputs.positions != nullptr) inputs.positions[row] = next + j;
      if (c == 0) {
        write_rows(inputs, row, stream, static_cast<int64_t>(next) + j);
        MaskRow(inputs, row).show(static_cast<int64_t>(p) + j + 1, static_cast<int64_t>(next) + j + 1);
      } else {
        MaskRow(inputs, row).show(p, next);
      }
    }
  }
}

}  // namespace

bool read_ring(uint64_t* words, uint32_t stamp, std::span<int32_t> values) {
  for (int32_t& value : values) {
    const uint64_t word = std::atomic_ref<uint64_t>(*words++).load(std::memory_order_acquire);
    if (word >> 32 != stamp) return false;
    value = static_cast<int32_t>(word);
  }
  return true;
}

void advance(const AdvanceArgs& args) {
  verify(args.to_verify());
  LoopState& loop = *args.loop.state;
  for (int32_t b = 0; b < args.shape.lanes; b++) {
    advance_lane(args, b);
    loop.running += lane_runs(args.lanes[b], args.shape.block) ? 1 : 0;
    if (++loop.arrived != static_cast<uint32_t>(args.loop.lanes)) continue;
    loop.iteration++;
    loop.goes_on = loop_goes_on(loop.running, loop.iteration, read_limit(args.loop.limit)) ? 1 : 0;
    loop.arrived = loop.running = 0;
  }
}

void write_lane_inputs(const PassShape& shape, const GraphInputs& inputs, ScratchRows scratch, int32_t b,
                       const LaneState& lane, const Token* tokens) {
  const int n = shape.block;
  const int64_t first = static_cast<int64_t>(b) * shape.candidates * n;
  const int64_t stream = static_cast<int64_t>(inputs.first_stream) + b;
  for (int32_t c = 0; c < shape.candidates; c++) {
    const int64_t base = static_cast<int64_t>(scratch.first) + static_cast<int64_t>(c - 1) * n;
    for (int j = 0; j < n; j++) {
      const int64_t row = first + static_cast<int64_t>(c) * n + j;
      inputs.tokens[row] = tokens[static_cast<int64_t>(c) * n + j];
      if (inputs.positions != nullptr) inputs.positions[row] = lane.position + j;
      MaskRow mask(inputs, row);
      mask.hide(0, inputs.n_kv);
      if (c == 0) {
        write_rows(inputs, row, stream, static_cast<int64_t>(lane.position) + j);
        mask.show(0, static_cast<int64_t>(lane.position) + j + 1);
      } else {
        write_rows(inputs, row, stream, base + j);
        mask.show(0, lane.position);
        mask.show(base, base + j + 1);
      }
    }
  }
}

}  // namespace cllm
