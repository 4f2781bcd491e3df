#pragma once

#include <cstdint>

#include "cuda/kernels/check.cuh"
#include "kernels/verify.h"

namespace cllm::cuda {

constexpr int kWarp = 32;

/// The first j in [0, count) for which test(j) holds, or count. All threads of the warp get the same result; they test
/// 32 values of j at a time.
template <typename Test>
__device__ inline int first_where(int count, int thread, Test test) {
  for (int base = 0; base < count; base += kWarp) {
    const int j = base + thread;
    const unsigned hits = __ballot_sync(kAllThreads, j < count && test(j));
    if (hits != 0) return base + __ffs(static_cast<int>(hits)) - 1;
  }
  return count;
}

/// The verdict for a lane, by one warp; `thread` is the thread's place in it. It takes the lane's candidates one after
/// another, with a thread per token. tokens, choices [C, n] and stood [n] are the lane's; ends(i) says whether
/// choices[i] ends it.
template <typename Ends>
__device__ inline Verdict verify_by_warp(const PassShape& shape, const LaneState& lane, const Token* tokens,
                                         const Token* choices, const uint8_t* stood, Ends ends, int thread) {
  const int32_t n = shape.block;
  Verdict verdict;
  verdict.position = lane.position;
  if (!lane_runs(lane, n)) return verdict;
  verdict.accepted = -1;
  for (int32_t c = 0; c < shape.candidates; c++) {
    const int32_t row = c * n;
    const int accepted = first_where(n - 1, thread, [&](int j) { return tokens[row + j + 1] != choices[row + j]; });
    if (accepted > verdict.accepted) {
      verdict.accepted = accepted;
      verdict.winner = c;
    }
  }
  const int32_t row = verdict.winner * n;
  const int limit = verdict.accepted + 1 < lane.budget ? verdict.accepted + 1 : lane.budget;
  const int end = first_where(limit, thread, [&](int j) { return ends(row + j); });
  verdict.ended = end < limit ? 1 : 0;
  verdict.emitted = end < limit ? end + 1 : limit;
  for (int base = 1; base < verdict.emitted; base += kWarp) {
    const int j = base + thread;
    verdict.stationary +=
        __popc(__ballot_sync(kAllThreads, j < verdict.emitted && stood[j] != 0 && tokens[j] == tokens[row + j]));
  }
  return verdict;
}

/// The table of tokens that end the lane, or null where none does.
__device__ inline const uint8_t* ends_of(const LaneState& lane, const uint8_t* end_of_generation) {
  return lane.stop_at_end != 0 ? end_of_generation : nullptr;
}

}  // namespace cllm::cuda
