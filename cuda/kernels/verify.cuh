#pragma once

#include <cstdint>

#include "cuda/kernels/check.cuh"
#include "kernels/verify.h"

namespace cllm::cuda {

constexpr unsigned kAllThreads = 0xffffffffu;
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

/// The verdict for lane b, by one warp; `thread` is the thread's place in it. It takes the lane's candidates one after
/// another, with a thread per token.
__device__ inline Verdict verify_by_warp(const VerifyArgs& args, int32_t b, int thread) {
  const int32_t n = args.shape.block;
  const LaneState& lane = args.lanes[b];
  Verdict verdict;
  verdict.position = lane.position;
  if (!lane_runs(lane, n)) return verdict;
  const int64_t first = static_cast<int64_t>(b) * args.shape.candidates * n;
  verdict.accepted = -1;
  for (int32_t c = 0; c < args.shape.candidates; c++) {
    const Token* tokens = args.tokens + first + static_cast<int64_t>(c) * n;
    const Token* choices = args.choices + first + static_cast<int64_t>(c) * n;
    const int accepted = first_where(n - 1, thread, [&](int j) { return tokens[j + 1] != choices[j]; });
    if (accepted > verdict.accepted) {
      verdict.accepted = accepted;
      verdict.winner = c;
    }
  }
  const Token* own_block = args.tokens + first;
  const Token* winner_block = own_block + static_cast<int64_t>(verdict.winner) * n;
  const Token* choices = args.choices + first + static_cast<int64_t>(verdict.winner) * n;
  const bool stops = lane.stop_at_end != 0 && args.end_of_generation != nullptr;
  const int limit = verdict.accepted + 1 < lane.budget ? verdict.accepted + 1 : lane.budget;
  const int end = first_where(limit, thread, [&](int j) { return stops && args.end_of_generation[choices[j]] != 0; });
  verdict.ended = end < limit ? 1 : 0;
  verdict.emitted = end < limit ? end + 1 : limit;
  const uint8_t* stood = args.stood + static_cast<int64_t>(b) * n;
  for (int base = 1; base < verdict.emitted; base += kWarp) {
    const int j = base + thread;
    verdict.stationary +=
        __popc(__ballot_sync(kAllThreads, j < verdict.emitted && stood[j] != 0 && own_block[j] == winner_block[j]));
  }
  return verdict;
}

}  // namespace cllm::cuda
