#include "kernels/verify.h"

namespace cllm {

int count_accepted(const Token* block, const Token* choices, int n) {
  int m = 0;
  while (m < n - 1 && block[m + 1] == choices[m]) m++;
  return m;
}

int count_emitted(const Token* choices, int accepted, int64_t budget, const uint8_t* end_of_generation) {
  int emitted = 0;
  while (emitted <= accepted && emitted < budget) {
    const Token token = choices[emitted++];
    if (end_of_generation != nullptr && end_of_generation[token] != 0) break;
  }
  return emitted;
}

int count_stationary(const uint8_t* stood, int count) {
  int stationary = 0;
  for (int j = 1; j <= count; j++) stationary += stood[j];
  return stationary;
}

void verify(const VerifyArgs& args) {
  const int n = args.shape.block;
  for (int32_t b = 0; b < args.shape.lanes; b++) {
    const LaneState& lane = args.lanes[b];
    Verdict& verdict = args.verdicts[b];
    verdict = {.position = lane.position};
    if (!lane_runs(lane, n)) continue;
    const int64_t first = static_cast<int64_t>(b) * args.shape.candidates * n;
    verdict.accepted = -1;
    for (int32_t c = 0; c < args.shape.candidates; c++) {
      const int accepted = count_accepted(args.tokens + first + c * n, args.choices + first + c * n, n);
      if (accepted <= verdict.accepted) continue;
      verdict.accepted = accepted;
      verdict.winner = c;
    }
    const Token* own_block = args.tokens + first;
    const Token* winner_block = own_block + static_cast<int64_t>(verdict.winner) * n;
    const Token* choices = args.choices + first + static_cast<int64_t>(verdict.winner) * n;
    const uint8_t* ends = lane.stop_at_end != 0 ? args.end_of_generation : nullptr;
    verdict.emitted = count_emitted(choices, verdict.accepted, lane.budget, ends);
    const uint8_t* stood = args.stood + static_cast<int64_t>(b) * n;
    for (int j = 1; j < verdict.emitted; j++) verdict.stationary += stood[j] != 0 && own_block[j] == winner_block[j];
    verdict.ended = ends != nullptr && ends[choices[verdict.emitted - 1]] != 0 ? 1 : 0;
  }
}

}  // namespace cllm
