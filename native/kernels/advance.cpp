#include "kernels/advance.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/limits.h"
#include "kernels/draft.h"

namespace cllm {

namespace {

/// One row of a mask, whose cells can be shown or hidden.
class MaskRow {
 public:
  MaskRow(const AttentionInputs& inputs, int64_t row) : inputs_(inputs), first_(row * inputs.n_kv) {}
  /// Shows or hides the cells [first, end).
  void show_cells(int64_t first, int64_t end) { fill(first, end, true); }
  void hide_cells(int64_t first, int64_t end) { fill(first, end, false); }
  /// Shows or hides the cells of the positions [first, end).
  void show(int32_t first, int32_t end) { by_position(first, end, true); }
  void hide(int32_t first, int32_t end) { by_position(first, end, false); }

 private:
  void by_position(int32_t first, int32_t end, bool visible) {
    while (first < end) {
      const int64_t cell = inputs_.cell(first);
      const int64_t count = std::min<int64_t>(end - first, inputs_.kv_size - cell);
      fill(cell, cell + count, visible);
      first += static_cast<int32_t>(count);
    }
  }
  void fill(int64_t first, int64_t end, bool visible) {
    if (inputs_.mask_f16 != 0) {
      auto* cells = static_cast<uint16_t*>(inputs_.mask) + first_;
      std::fill(cells + first, cells + std::max(first, end), visible ? uint16_t{0} : uint16_t{0xFC00});  // -inf
    } else {
      auto* cells = static_cast<float*>(inputs_.mask) + first_;
      std::fill(cells + first, cells + std::max(first, end), visible ? 0.0f : -INFINITY);
    }
  }

  const AttentionInputs& inputs_;
  int64_t first_;
};

void write_rows(const AttentionInputs& inputs, int64_t row, int64_t stream, int64_t cell) {
  inputs.k_rows[row] = stream * inputs.kv_size + cell;
  if (inputs.v_width == 0) {
    inputs.v_rows[row] = inputs.k_rows[row];
    return;
  }
  for (int64_t e = 0; e < inputs.v_width; e++) {
    inputs.v_rows[row * inputs.v_width + e] = (stream * inputs.v_width + e) * inputs.kv_size + cell;
  }
}

/// The scratch rows of its block that the row (c, j), c >= 1, sees begin at this one.
int32_t first_scratch_row(const Window& window, int32_t position, int j) {
  return std::clamp(window.first_seen(position + j) - position, 0, j + 1);
}

/// Moves lane b's rows of one attention input from position p to p'.
void advance_attention(const PassShape& shape, const AttentionInputs& inputs, ScratchRows scratch, int64_t first,
                       int64_t stream, int32_t p, int32_t next) {
  if (inputs.k_rows == nullptr) return;
  for (int32_t c = 0; c < shape.candidates; c++) {
    for (int j = 0; j < shape.block; j++) {
      const int64_t row = first + static_cast<int64_t>(c) * shape.block + j;
      const int32_t end = c == 0 ? p + j + 1 : p, next_end = end + next - p;
      MaskRow mask(inputs, row);
      const int32_t left = inputs.window.first_seen(next + j);
      mask.show(std::max(end, left), next_end);
      mask.hide(inputs.window.first_seen(p + j), left);
      if (c == 0) {
        write_rows(inputs, row, stream, inputs.cell(next + j));
      } else if (inputs.window.size > 0) {
        const int64_t base = scratch.first + static_cast<int64_t>(c - 1) * shape.block;
        mask.hide_cells(base, base + first_scratch_row(inputs.window, next, j));
        mask.show_cells(base + first_scratch_row(inputs.window, next, j), base + j + 1);
      }
    }
  }
}

/// Writes lane b's rows of one attention input for its first iteration.
void write_attention(const PassShape& shape, const AttentionInputs& inputs, ScratchRows scratch, int64_t first,
                     int64_t stream, int32_t position) {
  if (inputs.k_rows == nullptr) return;
  for (int32_t c = 0; c < shape.candidates; c++) {
    const int64_t base = static_cast<int64_t>(scratch.first) + static_cast<int64_t>(c - 1) * shape.block;
    for (int j = 0; j < shape.block; j++) {
      const int64_t row = first + static_cast<int64_t>(c) * shape.block + j;
      const int32_t seen = inputs.window.first_seen(position + j);
      MaskRow mask(inputs, row);
      mask.hide_cells(0, inputs.n_kv);
      if (c == 0) {
        write_rows(inputs, row, stream, inputs.cell(position + j));
        mask.show(seen, position + j + 1);
      } else {
        write_rows(inputs, row, stream, base + j);
        mask.show(seen, position);
        mask.show_cells(base + first_scratch_row(inputs.window, position, j), base + j + 1);
      }
    }
  }
}

void write_positions(const PassShape& shape, const GraphInputs& inputs, int64_t first, int32_t position) {
  if (inputs.positions == nullptr) return;
  const int32_t written_parts = inputs.position_parts == 1 ? 1 : 3;
  for (int32_t part = 0; part < written_parts; part++) {
    int32_t* positions = inputs.positions + part * shape.rows() + first;
    for (int32_t c = 0; c < shape.candidates; c++) {
      for (int j = 0; j < shape.block; j++) positions[c * shape.block + j] = position + j;
    }
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
  const bool runs = lane_runs(lane, n);
  const int64_t stream = static_cast<int64_t>(inputs.first_stream) + b;
  if (inputs.states.rows != nullptr) {
    const int32_t plane = runs ? n - verdict.emitted : inputs.states.spare_plane;
    inputs.states.rows[b] = inputs.states.row(plane, inputs.first_stream + b);
    for (const AttentionInputs* attention : {&inputs.full, &inputs.windowed}) {
      if (runs || attention->k_rows == nullptr) continue;
      for (int j = 0; j < n; j++) write_rows(*attention, first + j, stream, attention->cell(lane.row_end));
    }
  }
  if (!runs) return;

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
  write_positions(shape, inputs, first, next);
  advance_attention(shape, inputs.full, args.scratch, first, stream, p, next);
  advance_attention(shape, inputs.windowed, args.scratch, first, stream, p, next);
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
  const int64_t rows = static_cast<int64_t>(shape.candidates) * shape.block;
  const int64_t first = b * rows;
  const int64_t stream = static_cast<int64_t>(inputs.first_stream) + b;
  std::copy_n(tokens, rows, inputs.tokens + first);
  write_positions(shape, inputs, first, lane.position);
  write_attention(shape, inputs.full, scratch, first, stream, lane.position);
  write_attention(shape, inputs.windowed, scratch, first, stream, lane.position);
}

}  // namespace cllm
