// `advance` on a GPU: writes the next iteration's graph inputs in place.
#include <cmath>
#include <cstdint>

#include "base/limits.h"
#include "cuda/kernels/check.cuh"
#include "cuda/kernels/kernels.cuh"
#include "kernels/draft.h"

namespace cllm::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 8;         // tokens that a thread of the search loads together
constexpr uint32_t kVisible = 0;  // mask bits of a visible cell: 0.0 as f32 and as f16

/// Copies the verdict and the winner's block and choices to the ring. The block also goes to shared memory, because
/// `tokens` is about to be overwritten.
__device__ inline void record(const AdvanceArgs& args, int32_t b, const Verdict& verdict, int64_t winner_row,
                              Token* block) {
  const int32_t n = args.shape.block;
  int32_t* out = args.ring + (args.ring_slot * args.shape.lanes + b) * ring_words(n);
  const int32_t words = ring_words(n) - 2 * n;
  if (threadIdx.x == 0) {
    const int32_t* bits = reinterpret_cast<const int32_t*>(&verdict);
    for (int32_t w = 0; w < words; w++) out[w] = bits[w];
  }
  for (int32_t j = static_cast<int32_t>(threadIdx.x); j < n; j += kThreads) {
    block[j] = args.inputs.tokens[winner_row + j];
    out[words + j] = block[j];
    out[words + n + j] = args.choices[winner_row + j];
  }
}

/// find_continuation() by all threads. Each thread searches every kThreads-th place. The longest key wins, and among
/// equals the latest place.
__device__ inline Continuation find_by_all(const DraftView& view, const FirstTokens& taken, unsigned long long* best) {
  if (threadIdx.x == 0) *best = 0;
  __syncthreads();
  unsigned long long thread_best = 0;
  const Token last = view.at(view.end() - 1);
  for (int64_t base = static_cast<int64_t>(threadIdx.x); base + 1 < view.size; base += kLoads * kThreads) {
    // All loads come first, so that a thread waits for memory once instead of kLoads times.
    Token before[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; i++) {
      const int64_t at = base + i * kThreads;
      before[i] = at + 1 < view.size ? view.tokens[at] : -1;
    }
#pragma unroll
    for (int i = 0; i < kLoads; i++) {
      if (before[i] != last) continue;
      const int64_t place = base + i * kThreads + 1;
      if (taken.has(view.tokens[place])) continue;
      const auto length = static_cast<unsigned long long>(key_before(view, place));
      const unsigned long long found = length << 32 | static_cast<unsigned long long>(place);
      if (found > thread_best) thread_best = found;
    }
  }
  if (thread_best != 0) atomicMax(best, thread_best);
  __syncthreads();
  const unsigned long long found = *best;
  return {static_cast<int64_t>(found & 0xffffffffu), static_cast<int32_t>(found >> 32)};
}

/// complete_draft() by all threads, in shared memory. Other threads may still be writing block[1 .. kept] and the
/// lane's tokens, so these are read only behind the barrier of find_by_all().
__device__ inline void complete_by_all(const LaneState& lane, int32_t kept, int32_t n, Token* block,
                                       unsigned long long* best) {
  const int64_t size = static_cast<int64_t>(lane.position) + 1;
  Continuation from;
  const auto mode = static_cast<DraftMode>(lane.draft_mode);
  if (mode >= kDraftLookup) {
    from = find_by_all({lane.tokens, size, block, 0}, {nullptr, 0}, best);
    if (from.length >= min_key_length(mode)) {
      kept = 0;
    } else {
      from = {};
    }
    __syncthreads();  // before `best` is used again
  }
  if (kept + 1 >= n) return;
  const DraftView view{lane.tokens, size, block, kept};
  if (mode != kDraftRandom && from.length == 0) from = find_by_all(view, {nullptr, 0}, best);
  if (from.length > 0) {
    // One thread writes slot by slot, because a continuation that reaches the draft reads slots it has just written.
    if (threadIdx.x == 0) {
      for (int32_t slot = kept + 1; slot < n; slot++) block[slot] = continued(view, from, slot);
    }
    return;
  }
  for (int32_t slot = kept + 1 + static_cast<int32_t>(threadIdx.x); slot < n; slot += kThreads) {
    block[slot] = random_prompt_token(lane.tokens, lane.prompt_size, lane.seed, size - 1 + slot);
  }
}

/// draft_candidates() by all threads, into blocks [candidates, n] in global memory. `block`, `first_tokens` and `best`
/// are shared memory.
__device__ inline void draft_by_all(const LaneState& lane, int32_t candidates, int32_t n, Token* blocks, Token* block,
                                    Token* first_tokens, unsigned long long* best) {
  const int64_t size = static_cast<int64_t>(lane.position) + 1;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  int32_t count = 0;
  for (int32_t c = 1; c < candidates; c++) {
    __syncthreads();  // before `block` and `best` are used again
    const DraftView view{lane.tokens, size, block, 0};
    const Continuation from = find_by_all(view, {first_tokens, count}, best);
    if (from.length > 0) {
      if (thread == 0) {
        first_tokens[count] = lane.tokens[from.place];
        for (int32_t slot = 1; slot < n; slot++) block[slot] = continued(view, from, slot);
      }
      count++;
    } else {
      for (int32_t slot = 1 + thread; slot < n; slot += kThreads) {
        block[slot] = random_prompt_token(lane.tokens, lane.prompt_size, candidate_seed(lane.seed, c), size - 1 + slot);
      }
    }
    __syncthreads();
    for (int32_t slot = thread; slot < n; slot += kThreads) {
      blocks[static_cast<int64_t>(c) * n + slot] = slot == 0 ? lane.tokens[size - 1] : block[slot];
    }
  }
}

/// Writes the KV row indices of the lane's own block, whose first position is `next`, by all threads.
__device__ inline void write_rows_by_all(const GraphInputs& inputs, int32_t b, int64_t first, int32_t n, int32_t next) {
  const int64_t stream = static_cast<int64_t>(inputs.first_stream) + b;
  for (int32_t j = static_cast<int32_t>(threadIdx.x); j < n; j += kThreads) {
    const int64_t cell = static_cast<int64_t>(next) + j;
    inputs.k_rows[first + j] = stream * inputs.kv_size + cell;
    if (inputs.v_width == 0) inputs.v_rows[first + j] = stream * inputs.kv_size + cell;
  }
  // Two nested loops, because a single one would divide by v_width, in 64 bits, for each of n * v_width elements.
  for (int32_t j = 0; j < n; j++) {
    for (int64_t e = threadIdx.x; e < inputs.v_width; e += kThreads) {
      inputs.v_rows[(first + j) * inputs.v_width + e] =
          (stream * inputs.v_width + e) * inputs.kv_size + static_cast<int64_t>(next) + j;
    }
  }
}

/// Shows the emitted tokens to all rows of the lane in the mask, by all threads.
__device__ inline void show_by_all(const GraphInputs& inputs, int64_t first, int32_t rows, int32_t n, int32_t p,
                                   int32_t emitted) {
  // Own row j gains the cells p + j + 1 .. p' + j, candidate rows gain p .. p' - 1: one cell per emitted token.
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < rows * emitted; i += kThreads) {
    const int32_t r = i / emitted;
    const int32_t from = r < n ? p + r + 1 : p;
    const int64_t at = (first + r) * inputs.n_kv + from + i % emitted;
    if (inputs.mask_f16 != 0) {
      static_cast<uint16_t*>(inputs.mask)[at] = static_cast<uint16_t>(kVisible);
    } else {
      static_cast<uint32_t*>(inputs.mask)[at] = kVisible;
    }
  }
}

/// Block b owns lane b. First all threads write the ring record, then they share out tokens, rows and mask cells.
__global__ void __launch_bounds__(kThreads, 1) advance_kernel(AdvanceArgs args) {
  CLLM_SHARED(Token, block, kMaxBlockSize);
  CLLM_SHARED(Token, next_block, kMaxBlockSize);
  CLLM_SHARED(Token, first_tokens, kMaxCandidates);
  CLLM_SHARED(unsigned long long, best, 1);
  const int32_t b = static_cast<int32_t>(blockIdx.x);
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int32_t n = args.shape.block;
  const int32_t candidates = args.shape.candidates;
  const GraphInputs& inputs = args.inputs;
  const Verdict verdict = args.verdicts[b];
  LaneState lane = args.lanes[b];
  const int64_t first = static_cast<int64_t>(b) * candidates * n;
  const int64_t winner_row = first + static_cast<int64_t>(verdict.winner) * n;
  record(args, b, verdict, winner_row, block);
  __syncthreads();  // all threads have read the old state, and the old tokens are in shared memory
  if (verdict.emitted == 0) return;

  const int32_t p = lane.position;
  lane.position = p + verdict.emitted;
  lane.budget -= verdict.emitted;
  lane.ended |= verdict.ended;
  if (thread == 0) {
    args.lanes[b].position = lane.position;
    args.lanes[b].budget = lane.budget;
    args.lanes[b].ended = lane.ended;
  }
  const Token* choices = args.choices + winner_row;
  for (int32_t i = thread; i < verdict.emitted; i += kThreads) lane.tokens[p + 1 + i] = choices[i];
  if (!lane_runs(lane, n)) return;

  const int32_t next = lane.position;
  const int32_t kept = n - verdict.emitted;
  for (int32_t j = thread; j <= kept; j += kThreads) next_block[j] = choices[verdict.emitted - 1 + j];
  complete_by_all(lane, kept, n, next_block, best);
  __syncthreads();
  const int32_t rows = candidates * n;
  for (int32_t j = thread; j < n; j += kThreads) {
    inputs.tokens[first + j] = next_block[j];
    // Slot j guesses the token of the absolute position that block[emitted + j] held until now.
    const int32_t slot = verdict.emitted + j;
    args.stood[static_cast<int64_t>(b) * n + j] = j > 0 && slot < n && block[slot] == next_block[j] ? 1 : 0;
  }
  draft_by_all(lane, candidates, n, inputs.tokens + first, next_block, first_tokens, best);
  if (inputs.positions != nullptr) {
    for (int32_t r = thread; r < rows; r += kThreads) inputs.positions[first + r] = next + r % n;
  }

  write_rows_by_all(inputs, b, first, n, next);
  show_by_all(inputs, first, rows, n, p, verdict.emitted);
}

}  // namespace

cudaError_t advance(const AdvanceArgs& args, cudaStream_t stream) {
  if (args.shape.block > kMaxBlockSize) return cudaErrorInvalidValue;
  CLLM_LAUNCH(advance_kernel, dim3(static_cast<unsigned>(args.shape.lanes)), dim3(kThreads), stream, args);
  return launched();
}

}  // namespace cllm::cuda
