// `advance` on a GPU: verifies the drafts, writes the next iteration's graph inputs in place, and ends the loop.
#include <cstdint>
#include <cstring>

#include "base/limits.h"
#include "cuda/kernels/check.cuh"
#include "cuda/kernels/kernels.cuh"
#include "cuda/kernels/verify.cuh"
#include "kernels/draft.h"

namespace cllm::cuda {

namespace {

constexpr int kThreads = 256;
// Mask bits of a visible cell (0.0 as f32 and as f16) and of a hidden one (-inf).
constexpr uint32_t kVisible = 0, kHiddenF32 = 0xff800000u, kHiddenF16 = 0xfc00u;
constexpr int kKeys = kMaxKeyLength * kMaxBlockSize;
constexpr int kRows = kMaxCandidates * kMaxBlockSize;

/// What the threads of a block share about its lane.
struct Work {
  int32_t verdict[kVerdictWords];  // a Verdict, whose default values shared memory may not have
  Token tokens[kRows];             // the lane's blocks [C, n] and their choices
  Token choices[kRows];
  uint8_t ends[kRows];  // of the choices: 1 where it ends the lane
  uint8_t stood[kMaxBlockSize];
  Token next_block[kMaxBlockSize];
  Token recent[kMaxKeyLength];  // the tokens at p, p - 1, p - 2
  Token first_tokens[kMaxCandidates];
  int64_t buckets[kKeys];            // of the emitted tokens' places, [emitted, kMaxKeyLength]; -1: no key
  int32_t places[2][kMaxKeyLength];  // what the keys of each length were looked up to
};

/// Writes the lane's ring record, by all threads. `row` is that of the winner in work.tokens.
__device__ inline void record(const AdvanceArgs& args, int32_t b, uint32_t iteration, int32_t row, const Work& work) {
  const int32_t n = args.shape.block;
  const uint32_t stamp = ring_stamp(iteration);
  const int64_t slot = iteration % args.ring.slots;
  uint64_t* out = args.ring.words + (slot * args.shape.lanes + b) * ring_words(n);
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < ring_words(n); i += kThreads) {
    const int32_t j = i - kVerdictWords;
    write_ring(out + i, stamp, j < 0 ? work.verdict[i] : j < n ? work.tokens[row + j] : work.choices[row + j - n]);
  }
}

/// Adds the places of the emitted tokens to the lane's index (add_place), by all threads. The keys of all places are
/// hashed together, so what stands in front of a place in its bucket is looked for among the new places too.
__device__ inline void add_places_by_all(const PlaceIndex& index, int32_t p, int32_t emitted, const Token* choices,
                                         Work& work) {
  const int32_t keys = emitted * kMaxKeyLength;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  for (int32_t i = thread; i < keys; i += kThreads) {
    const int32_t place = i / kMaxKeyLength, length = i % kMaxKeyLength + 1;  // place 0 is p + 1
    Key key;
    for (int32_t j = 0; j < kMaxKeyLength; j++) {
      key.tokens[j] = j < place ? choices[place - 1 - j] : work.recent[j - place];
    }
    work.buckets[i] = length > p + 1 + place ? -1 : index.bucket(length, key);
  }
  __syncthreads();
  for (int32_t i = thread; i < keys; i += kThreads) {
    const int64_t bucket = work.buckets[i];
    const int32_t length = i % kMaxKeyLength + 1;
    int32_t before = i - kMaxKeyLength;
    while (before >= 0 && work.buckets[before] != bucket) before -= kMaxKeyLength;
    // Nobody writes `latest` before all have read it: its writers wait for the barrier below.
    const int32_t earlier = bucket < 0 ? 0 : before >= 0 ? p + 1 + before / kMaxKeyLength : index.latest[bucket];
    index.before(p + 1 + i / kMaxKeyLength, length) = earlier;
  }
  __syncthreads();
  for (int32_t i = thread; i < keys; i += kThreads) {
    int32_t after = i + kMaxKeyLength;
    while (after < keys && work.buckets[after] != work.buckets[i]) after += kMaxKeyLength;
    if (after >= keys && work.buckets[i] >= 0) index.latest[work.buckets[i]] = p + 1 + i / kMaxKeyLength;
  }
}

/// find_continuation() from what find_places() found.
__device__ inline Continuation best_of(const int32_t* places) {
  int32_t length = kMaxKeyLength;
  while (length > 0 && places[length - 1] == 0) length--;
  return {length > 0 ? places[length - 1] : 0, length};
}

/// Looks up the keys of each length, one per thread from `first_thread` on.
__device__ inline void find_places(const DraftView& view, const PlaceIndex& index, const FirstTokens& taken,
                                   int32_t first_thread, int32_t* places) {
  const int32_t length = static_cast<int32_t>(threadIdx.x) - first_thread + 1;
  if (length < 1 || length > kMaxKeyLength) return;
  places[length - 1] = static_cast<int32_t>(find_place(view, index, length, taken));
}

/// complete_draft() by all threads, for work.next_block. A barrier must lie before and behind it.
__device__ inline void complete_by_all(const LaneState& lane, int32_t kept, int32_t n, Work& work) {
  const int64_t size = static_cast<int64_t>(lane.position) + 1;
  const auto mode = static_cast<DraftMode>(lane.draft_mode);
  Token* block = work.next_block;
  // What follows the confirmed tokens and what follows the kept choices is looked up at once, by different warps.
  find_places({lane.tokens, size, block, 0}, lane.index(), {nullptr, 0}, 0, work.places[0]);
  find_places({lane.tokens, size, block, kept}, lane.index(), {nullptr, 0}, kWarp, work.places[1]);
  __syncthreads();
  Continuation from = best_of(work.places[0]);
  if (mode >= kDraftLookup && from.length >= min_key_length(mode)) {
    kept = 0;
  } else {
    from = best_of(work.places[1]);
  }
  if (mode == kDraftRandom) from.length = 0;
  const DraftView view{lane.tokens, size, block, kept};
  for (int32_t slot = kept + 1 + static_cast<int32_t>(threadIdx.x); slot < n; slot += kThreads) {
    block[slot] = from.length > 0 ? continued(view, from, slot)
                                  : random_prompt_token(lane.tokens, lane.prompt_size, lane.seed, size - 1 + slot);
  }
}

/// draft_candidates() by all threads, into blocks [candidates, n] in global memory.
__device__ inline void draft_by_all(const LaneState& lane, int32_t candidates, int32_t n, Token* blocks, Work& work) {
  const int64_t size = static_cast<int64_t>(lane.position) + 1;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  int32_t count = 0;
  for (int32_t c = 1; c < candidates; c++) {
    __syncthreads();  // before `places` are used again, and behind `first_tokens`
    const DraftView view{lane.tokens, size, work.next_block, 0};
    find_places(view, lane.index(), {work.first_tokens, count}, 0, work.places[0]);
    __syncthreads();
    const Continuation from = best_of(work.places[0]);
    for (int32_t slot = thread; slot < n; slot += kThreads) {
      const Token token = slot == 0         ? lane.tokens[size - 1]
                          : from.length > 0 ? continued(view, from, slot)
                                            : random_prompt_token(lane.tokens, lane.prompt_size,
                                                                  candidate_seed(lane.seed, c), size - 1 + slot);
      blocks[static_cast<int64_t>(c) * n + slot] = token;
      if (slot == 1 && from.length > 0) work.first_tokens[count] = token;
    }
    if (from.length > 0) count++;
  }
}

/// Writes the KV row indices of the lane's own block, by all threads: token j has the cell of position next + step * j.
__device__ inline void write_rows_by_all(const AttentionInputs& inputs, int64_t stream, int64_t first, int32_t n,
                                         int32_t next, int32_t step) {
  for (int32_t j = static_cast<int32_t>(threadIdx.x); j < n; j += kThreads) {
    const int64_t row = stream * inputs.kv_size + inputs.cell(next + step * j);
    inputs.k_rows[first + j] = row;
    if (inputs.v_width == 0) inputs.v_rows[first + j] = row;
  }
  // Two nested loops, because a single one would divide by v_width, in 64 bits, for each of n * v_width elements.
  for (int32_t j = 0; j < n && inputs.v_width > 0; j++) {
    const int64_t cell = inputs.cell(next + step * j);
    for (int64_t e = threadIdx.x; e < inputs.v_width; e += kThreads) {
      inputs.v_rows[(first + j) * inputs.v_width + e] = (stream * inputs.v_width + e) * inputs.kv_size + cell;
    }
  }
}

/// Writes one cell of a row of the mask.
__device__ inline void set_cell(const AttentionInputs& inputs, int64_t row, int64_t cell, bool visible) {
  const int64_t at = row * inputs.n_kv + cell;
  if (inputs.mask_f16 != 0) {
    static_cast<uint16_t*>(inputs.mask)[at] = static_cast<uint16_t>(visible ? kVisible : kHiddenF16);
  } else {
    static_cast<uint32_t*>(inputs.mask)[at] = visible ? kVisible : kHiddenF32;
  }
}

/// Shows the emitted tokens to all rows of the lane in the mask, by all threads.
__device__ inline void show_by_all(const AttentionInputs& inputs, int64_t first, int32_t rows, int32_t n, int32_t p,
                                   int32_t emitted) {
  // Own row j gains the positions p + j + 1 .. p' + j, candidate rows gain p .. p' - 1: one for each emitted token.
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < rows * emitted; i += kThreads) {
    const int32_t r = i / emitted;
    const int32_t position = (r < n ? p + r + 1 : p) + i % emitted;
    if (position < inputs.window.first_seen(p + emitted + r % n)) continue;
    set_cell(inputs, first + r, inputs.cell(position), true);
  }
}

/// Hides what has left the window of the lane's rows; a warp takes a row at a time. show_by_all() writes other cells at
/// the same time: window and block fit into the cache together, so no two of these positions share a cell.
__device__ inline void hide_by_all(const AttentionInputs& inputs, ScratchRows scratch, int64_t first, int32_t rows,
                                   int32_t n, int32_t p, int32_t emitted) {
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarp, thread = static_cast<int32_t>(threadIdx.x) % kWarp;
  const int32_t next = p + emitted;
  for (int32_t r = warp; r < rows; r += kThreads / kWarp) {
    const int32_t j = r % n, left = inputs.window.first_seen(next + j);
    for (int32_t position = inputs.window.first_seen(p + j) + thread; position < left; position += kWarp) {
      set_cell(inputs, first + r, inputs.cell(position), false);
    }
    if (r < n) continue;
    const int64_t base = scratch.first + static_cast<int64_t>(r / n - 1) * n;
    for (int32_t i = thread; i <= j; i += kWarp) set_cell(inputs, first + r, base + i, next + i >= left);
  }
}

/// Moves the lane's rows of one attention input from position p on, by all threads.
__device__ inline void advance_attention_by_all(const AttentionInputs& inputs, const AdvanceArgs& args, int32_t b,
                                                int64_t first, int32_t p, int32_t emitted) {
  if (inputs.k_rows == nullptr) return;
  const int32_t n = args.shape.block, rows = args.shape.candidates * n;
  const int64_t stream = static_cast<int64_t>(args.inputs.first_stream) + b;
  write_rows_by_all(inputs, stream, first, n, p + emitted, 1);
  show_by_all(inputs, first, rows, n, p, emitted);
  if (inputs.window.size > 0) hide_by_all(inputs, args.scratch, first, rows, n, p, emitted);
}

/// Writes the row of the state that the lane's next pass starts from, by all threads; a lane that has stopped gets KV
/// rows that nobody sees.
__device__ inline void start_from_state(const GraphInputs& inputs, const LaneState& lane, int32_t b, int64_t first,
                                        int32_t n, int32_t emitted) {
  const bool runs = lane_runs(lane, n);
  const int32_t stream = inputs.first_stream + b;
  if (threadIdx.x == 0) {
    inputs.states.rows[b] = inputs.states.row(runs ? n - emitted : inputs.states.spare_plane, stream);
  }
  if (runs) return;
  if (inputs.full.k_rows != nullptr) write_rows_by_all(inputs.full, stream, first, n, lane.row_end, 0);
  if (inputs.windowed.k_rows != nullptr) write_rows_by_all(inputs.windowed, stream, first, n, lane.row_end, 0);
}

/// Moves lane b forward, by all threads of the block. Returns whether it can run again.
__device__ inline bool advance_by_all(const AdvanceArgs& args, int32_t b, uint32_t iteration, Work& work) {
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int32_t n = args.shape.block;
  const int32_t candidates = args.shape.candidates;
  const GraphInputs& inputs = args.inputs;
  const int64_t first = static_cast<int64_t>(b) * candidates * n;
  // Each load waits for memory, so those that need nothing of one another are made together.
  LaneState lane = args.lanes[b];
  const int32_t p = lane.position;
  const uint8_t* table = ends_of(lane, args.end_of_generation);
  for (int32_t i = thread; i < candidates * n; i += kThreads) {
    work.tokens[i] = inputs.tokens[first + i];
    work.choices[i] = args.choices[first + i];
    work.ends[i] = table != nullptr ? table[work.choices[i]] : 0;
    if (i < n) work.stood[i] = args.stood[static_cast<int64_t>(b) * n + i];
  }
  // The last threads have no token to load, but where the pass is large.
  const int32_t back = kThreads - 1 - thread;
  if (back < kMaxKeyLength) work.recent[back] = back <= p ? lane.tokens[p - back] : 0;
  __syncthreads();  // all threads have read the old state, and the old tokens are in shared memory
  if (thread < kWarp) {
    const auto ends = [&](int i) { return work.ends[i] != 0; };
    const Verdict verdict = verify_by_warp(args.shape, lane, work.tokens, work.choices, work.stood, ends, thread);
    if (thread == 0) {
      args.verdicts[b] = verdict;
      memcpy(work.verdict, &verdict, sizeof(verdict));
    }
  }
  __syncthreads();
  Verdict verdict;
  memcpy(static_cast<void*>(&verdict), work.verdict, sizeof(verdict));
  const int32_t row = verdict.winner * n;
  const Token* block = work.tokens + row;
  const Token* choices = work.choices + row;
  record(args, b, iteration, row, work);
  if (verdict.emitted == 0) return lane_runs(lane, n);

  lane.position = p + verdict.emitted;
  lane.budget -= verdict.emitted;
  lane.ended |= verdict.ended;
  if (thread == 0) {
    args.lanes[b].position = lane.position;
    args.lanes[b].budget = lane.budget;
    args.lanes[b].ended = lane.ended;
  }
  for (int32_t i = thread; i < verdict.emitted; i += kThreads) lane.tokens[p + 1 + i] = choices[i];
  if (inputs.states.rows != nullptr) start_from_state(inputs, lane, b, first, n, verdict.emitted);
  if (!lane_runs(lane, n)) return false;

  const int32_t next = lane.position;
  const int32_t kept = n - verdict.emitted;
  for (int32_t j = thread; j <= kept; j += kThreads) work.next_block[j] = choices[verdict.emitted - 1 + j];
  add_places_by_all(lane.index(), p, verdict.emitted, choices, work);
  __syncthreads();
  complete_by_all(lane, kept, n, work);
  __syncthreads();
  const int32_t rows = candidates * n;
  for (int32_t j = thread; j < n; j += kThreads) {
    inputs.tokens[first + j] = work.next_block[j];
    // Slot j guesses the token of the absolute position that block[emitted + j] held until now.
    const int32_t slot = verdict.emitted + j;
    args.stood[static_cast<int64_t>(b) * n + j] = j > 0 && slot < n && block[slot] == work.next_block[j] ? 1 : 0;
  }
  draft_by_all(lane, candidates, n, inputs.tokens + first, work);
  for (int32_t part = 0; inputs.positions != nullptr && part < (inputs.position_parts == 1 ? 1 : 3); part++) {
    int32_t* positions = inputs.positions + part * args.shape.rows() + first;
    for (int32_t r = thread; r < rows; r += kThreads) positions[r] = next + r % n;
  }
  advance_attention_by_all(inputs.full, args, b, first, p, verdict.emitted);
  advance_attention_by_all(inputs.windowed, args, b, first, p, verdict.emitted);
  return true;
}

/// Counts a lane that is done. The last lane of an iteration, of all its passes, decides whether another one follows.
__device__ inline void arrive(const Loop& loop, bool runs, uint32_t iteration, uint32_t limit,
                              cudaGraphConditionalHandle condition) {
  LoopState& state = *loop.state;
  if (runs) atomicAdd(&state.running, 1u);
  __threadfence();  // the lane is counted as running before it is counted as done
  if (atomicAdd(&state.arrived, 1u) + 1 != static_cast<uint32_t>(loop.lanes)) return;
  __threadfence();
  const uint32_t running = atomicExch(&state.running, 0u);
  atomicExch(&state.arrived, 0u);
  const bool goes_on = loop_goes_on(running, iteration + 1, limit);
  state.goes_on = goes_on ? 1 : 0;
  state.iteration = iteration + 1;
  if (condition != 0) cudaGraphSetConditional(condition, goes_on ? 1u : 0u);
}

/// Block b owns lane b. `condition` is that of a recorded loop, or 0.
__global__ void __launch_bounds__(kThreads, 1) advance_kernel(AdvanceArgs args, cudaGraphConditionalHandle condition) {
  CLLM_SHARED(Work, work, 1);
  // Every block reads the count before it arrives, and only the last to arrive changes it. The limit lies in host
  // memory, so it is asked for early.
  const uint32_t iteration = args.loop.state->iteration;
  const uint32_t limit = threadIdx.x == 0 ? read_limit(args.loop.limit) : 0;
  const bool runs = advance_by_all(args, static_cast<int32_t>(blockIdx.x), iteration, *work);
  if (threadIdx.x == 0) arrive(args.loop, runs, iteration, limit, condition);
}

}  // namespace

cudaError_t advance(const AdvanceArgs& args, cudaGraphConditionalHandle condition, cudaStream_t stream) {
  if (args.shape.block > kMaxBlockSize || args.shape.candidates > kMaxCandidates) return cudaErrorInvalidValue;
  CLLM_LAUNCH(advance_kernel, dim3(static_cast<unsigned>(args.shape.lanes)), dim3(kThreads), stream, args, condition);
  return launched();
}

}  // namespace cllm::cuda
