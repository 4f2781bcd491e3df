#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "kernels/types.h"
#include "kernels/verify.h"

namespace cllm {

/// Which positions a row sees beside its own: all before it, or those of a sliding window.
struct Window {
  int32_t size = 0;     // in tokens; 0: no window
  int32_t chunked = 0;  // 1: the window is the chunk of `size` tokens that the row is in, 0: the last `size` tokens

  /// The first position that the row at `position` sees.
  CLLM_HOST_DEVICE int32_t first_seen(int32_t position) const {
    if (size == 0) return 0;
    if (chunked != 0) return position / size * size;
    return position < size ? 0 : position - size + 1;
  }
};

/// The inputs of the layers that share a KV cache. A cell is the index of a KV row in its lane's stream; a lane's cell
/// for position p is p modulo kv_size. Only a cache of layers with a window may have fewer cells than the context has
/// tokens: window and block then fit into it together. A graph that has no such layers has k_rows == null.
struct AttentionInputs {
  int64_t* k_rows = nullptr;  // [B, C, n]: stream * kv_size + cell
  /// v_width == 0 (flash attention on): [B, C, n], same values as k_rows.
  /// Otherwise (V transposed): [B, C, n, v_width], element e of row r: stream * kv_size * v_width + e * kv_size + cell.
  int64_t* v_rows = nullptr;
  void* mask = nullptr;  // [B, C * n, n_kv]: 0 where the row sees the cell, else -inf; f16 or f32
  int32_t mask_f16 = 0;  // 1: f16, 0: f32
  Window window;
  int64_t n_kv = 0;     // cells that the pass attends to, a multiple of kCellPadding
  int64_t kv_size = 0;  // cells of a stream, >= n_kv
  int64_t v_width = 0;  // elements of a V row when V is transposed, else 0

  CLLM_HOST_DEVICE int64_t cell(int32_t position) const { return position % static_cast<int32_t>(kv_size); }
};

/// The states of recurrent layers that the pass starts from. A state tensor has a row for each plane and lane: row
/// plane * lanes + lane. A pass of n tokens leaves the state d tokens before its end in plane d, d = 0 .. n - 1.
struct StateInputs {
  int32_t* rows = nullptr;  // [B]: the row that lane b starts from; null: the graph has no recurrent layers
  int32_t lanes = 0;        // of the context
  int32_t spare_plane = 0;  // the plane that no pass writes, >= the largest block

  CLLM_HOST_DEVICE int32_t row(int32_t plane, int32_t lane) const { return plane * lanes + lane; }
};

/// The inputs of a llama.cpp graph that change from iteration to iteration, in device memory.
struct GraphInputs {
  Token* tokens = nullptr;  // [B, C, n]
  /// [position_parts, B, C, n]: the position of each token. Models with M-RoPE have four parts: the first three are the
  /// same for text, and the last is 0 for ever.
  int32_t* positions = nullptr;
  int32_t position_parts = 1;  // 1 or 4
  int32_t first_stream = 0;    // stream and context's lane of lane 0; lane b has first_stream + b
  AttentionInputs full;        // of layers that see the whole context
  AttentionInputs windowed;    // of layers with a window
  StateInputs states;
};

/// Where candidates write their KV rows: token j of candidate c >= 1 of every lane writes cell first + (c - 1) * n + j.
/// These cells are at or beyond row_end of every lane and below n_kv. (Where there are candidates, a cache of layers
/// with a window has as many cells as the other one.) The row (c, j) sees the cells below its lane's position and the
/// scratch cells (c, 0 .. j), as far as its window allows.
struct ScratchRows {
  int32_t first = 0;
};

/// The output ring, in host memory, from which the host learns what the iterations did while the device goes on. A
/// record tells about one iteration of one lane in ring_words(n) values: a Verdict, then the winner's block [n] and
/// choices [n]. Slot i holds B records, that of lane b at words + (i * B + b) * ring_words(n).
///
/// A value is written together with its iteration's stamp, as one word of 64 bits. So a record is complete once all its
/// words have the stamp, in whatever order they arrive, and no fence is needed. (NCCL's protocol "LL" does the same: Hu
/// et al. 2025, "Demystifying NCCL", arXiv 2507.04786.)
struct Ring {
  uint64_t* words = nullptr;
  uint32_t slots = 1;
};
CLLM_HOST_DEVICE inline int32_t ring_words(int32_t block) { return kVerdictWords + 2 * block; }
/// The stamp of iteration `iteration` (LoopState), whose records are in slot iteration % slots. It is never 0, as the
/// words of a new ring are, and comes again after 2^31 iterations.
CLLM_HOST_DEVICE inline uint32_t ring_stamp(uint32_t iteration) { return iteration | 0x80000000u; }

CLLM_HOST_DEVICE inline void write_ring(uint64_t* word, uint32_t stamp, int32_t value) {
  const uint64_t both = static_cast<uint64_t>(stamp) << 32 | static_cast<uint32_t>(value);
#ifdef __CUDA_ARCH__
  *reinterpret_cast<volatile uint64_t*>(word) = both;
#else
  std::atomic_ref<uint64_t>(*word).store(both, std::memory_order_release);
#endif
}
/// Copies a record. Returns false, and may have copied a part, unless all its words have the stamp. On the host.
bool read_ring(uint64_t* words, uint32_t stamp, std::span<int32_t> values);

/// The loop that the iterations form, in device memory, zeroed at first. All passes of an iteration share it: lanes
/// that are no neighbours have passes of their own.
struct LoopState {
  uint32_t iteration = 0;  // iterations that are done
  uint32_t arrived = 0;    // lanes that are done with this iteration
  uint32_t running = 0;    // of these, lanes that can run again (lane_runs)
  uint32_t goes_on = 0;    // 1 where the last iteration found that another one should follow
};
/// Another iteration follows while a lane can run and fewer iterations than `limit` are done (as a signed difference,
/// because both wrap around). The host may lower the limit, in its own memory, to end the loop early.
struct Loop {
  LoopState* state = nullptr;
  uint32_t* limit = nullptr;
  int32_t lanes = 0;  // of all passes of an iteration
};

CLLM_HOST_DEVICE inline uint32_t read_limit(uint32_t* limit) {
#ifdef __CUDA_ARCH__
  return *reinterpret_cast<volatile uint32_t*>(limit);
#else
  return std::atomic_ref<uint32_t>(*limit).load(std::memory_order_acquire);
#endif
}
CLLM_HOST_DEVICE inline bool loop_goes_on(uint32_t running, uint32_t iterations_done, uint32_t limit) {
  return running > 0 && static_cast<int32_t>(limit - iterations_done) > 0;
}

/// `advance`: verifies the drafts of every lane (verify.h), moves it forward over the tokens that it emits and writes
/// the next iteration's inputs in place.
///
/// With w = winner, e = emitted, p' = p + e, for a lane with e > 0:
///   tokens          tokens[p + 1 .. p'] = choices[w, 0 .. e - 1]
///   own block       x'[j] = choices[w, e - 1 + j] for e - 1 + j < n; the lane's DraftMode fills the rest (draft.h)
///   candidate c>0   draft_candidates() (draft.h)
///   index           gains the places p + 1 .. p'
///   positions       p' + j for every candidate; k_rows and v_rows of the own block follow, those of scratch rows stay
///   mask            own row j gains the cells of p + j + 1 .. p' + j, candidate rows gain p .. p' - 1; rows of layers
///                   with a window lose the cells of positions that have left it
///   states          the row of plane n - e
///   stood'[j]       1 where the winner's block held x'[j] at the same position (mark_stood)
///   state           position = p', budget -= e, ended |= verdict's
/// A lane that emitted nothing keeps everything. A lane that can no longer run after this iteration (see lane_runs: it
/// has ended, or has no budget or no room below row_end) gets its new state and tokens only. Its block, rows, mask,
/// index and stood stay, so that running the graph again rewrites its rows with the values they hold. Recurrent states
/// would not stand that: such a lane starts from the spare plane, to which keep_state() copies its state, and all its
/// KV rows go to the cell of row_end, which nobody sees. A record is written for every lane, with emitted = 0 where the
/// lane emitted nothing.
struct AdvanceArgs {
  PassShape shape;
  const Token* choices = nullptr;              // [B, C, n], the choices of `choose` for the pass
  const uint8_t* end_of_generation = nullptr;  // [vocab], non-zero for such tokens
  Verdict* verdicts = nullptr;                 // [B] out, for roll_forward
  LaneState* lanes = nullptr;                  // [B] in, out
  uint8_t* stood = nullptr;                    // [B, n] in, out
  GraphInputs inputs;
  ScratchRows scratch;  // unused when C == 1
  Ring ring;
  Loop loop;

  CLLM_HOST_DEVICE VerifyArgs to_verify() const {
    return {shape, inputs.tokens, choices, stood, end_of_generation, lanes, verdicts};
  }
};

/// CPU implementation.
void advance(const AdvanceArgs& args);

/// Writes the inputs of lane b for its first iteration from its state and its blocks, tokens [C, n]: tokens, positions,
/// row indices, the whole masks; all but the state's row. Runs on the CPU and writes host memory.
void write_lane_inputs(const PassShape& shape, const GraphInputs& inputs, ScratchRows scratch, int32_t b,
                       const LaneState& lane, const Token* tokens);

}  // namespace cllm
