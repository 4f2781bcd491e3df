#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace cllm {

/// The inputs of a llama.cpp graph that change from iteration to iteration, in device memory. A cell is the index of a
/// KV row in its lane's stream; a lane's cell for position p is p.
struct GraphInputs {
  Token* tokens = nullptr;       // [B, C, n]
  int32_t* positions = nullptr;  // [B, C, n]
  int64_t* k_rows = nullptr;     // [B, C, n]: stream * kv_size + cell
  /// v_width == 0 (flash attention on): [B, C, n], same values as k_rows.
  /// Otherwise (V transposed): [B, C, n, v_width], element e of row r: stream * kv_size * v_width + e * kv_size + cell.
  int64_t* v_rows = nullptr;
  void* mask = nullptr;      // [B, C * n, n_kv]: 0 where the row sees the cell, else -inf; f16 or f32
  int32_t mask_f16 = 0;      // 1: f16, 0: f32
  int32_t first_stream = 0;  // stream of lane 0; lane b has stream first_stream + b
  int64_t n_kv = 0;          // cells that the pass attends to, a multiple of kCellPadding
  int64_t kv_size = 0;       // cells of a stream, >= n_kv
  int64_t v_width = 0;       // elements of a V row when V is transposed, else 0
};

/// Where candidates write their KV rows: token j of candidate c >= 1 of every lane writes cell first + (c - 1) * n + j.
/// These cells are at or beyond row_end of every lane and below n_kv. The row (c, j) sees the cells below its lane's
/// position and the scratch cells (c, 0 .. j).
struct ScratchRows {
  int32_t first = 0;
};

/// Size of a ring record, which tells the host about one iteration of one lane: a Verdict, then the winner's block [n]
/// and choices [n], all int32. Ring slot i holds B records, that of lane b at ring + (i * B + b) * ring_words(n).
CLLM_HOST_DEVICE inline int32_t ring_words(int32_t block) {
  return static_cast<int32_t>(sizeof(Verdict) / sizeof(int32_t)) + 2 * block;
}

/// `advance`: moves every lane forward over the tokens that it emitted and writes the next iteration's inputs in place.
///
/// With w = winner, e = emitted, p' = p + e, for a lane with e > 0:
///   tokens          tokens[p + 1 .. p'] = choices[w, 0 .. e - 1]
///   own block       x'[j] = choices[w, e - 1 + j] for e - 1 + j < n; the lane's DraftMode fills the rest (draft.h)
///   candidate c>0   draft_candidates() (draft.h)
///   positions       p' + j for every candidate; k_rows and v_rows of the own block follow, those of scratch rows stay
///   mask            own row j gains the cells p + j + 1 .. p' + j; candidate rows gain p .. p' - 1; none loses a cell
///   stood'[j]       1 where the winner's block held x'[j] at the same position (mark_stood)
///   state           position = p', budget -= e, ended |= verdict's
/// A lane that emitted nothing keeps everything. A lane that can no longer run after this iteration (see lane_runs: it
/// has ended, or has no budget or no room below row_end) gets its new state and tokens only. Its block, rows, mask and
/// stood stay, so that running the graph again rewrites its rows with the values they hold. A record is written for
/// every lane, with emitted = 0 where the lane emitted nothing.
struct AdvanceArgs {
  PassShape shape;
  const Token* choices = nullptr;     // [B, C, n]
  const Verdict* verdicts = nullptr;  // [B]
  LaneState* lanes = nullptr;         // [B] in, out
  uint8_t* stood = nullptr;           // [B, n] out
  GraphInputs inputs;
  ScratchRows scratch;  // unused when C == 1
  int32_t* ring = nullptr;
  int64_t ring_slot = 0;  // slot of this iteration's records
};

/// CPU implementation.
void advance(const AdvanceArgs& args);

/// Writes all inputs of lane b for its first iteration from its state and its blocks, tokens [C, n]: tokens, positions,
/// row indices, the whole mask. Runs on the CPU and writes host memory.
void write_lane_inputs(const PassShape& shape, const GraphInputs& inputs, ScratchRows scratch, int32_t b,
                       const LaneState& lane, const Token* tokens);

}  // namespace cllm
