#include "decode/host_runner.h"

#include "kernels/choose.h"

namespace cllm {

std::optional<PassResult> HostRunner::run(std::span<const LaneWork> lanes, const PassShape& shape, int /*count*/,
                                          BurstObserver& observer) {
  const int n = shape.block;
  blocks_.clear();
  for (const LaneWork& work : lanes) {
    blocks_.push_back({work.index, work.lane->position(), work.lane->block(n, work.seed, work.draft_mode)});
  }
  const PassResult result = context_.decode(blocks_, true);
  if (result != PassResult::kOk) return result;

  choose_tokens(lanes, n);
  const int64_t vocab = context_.model().info().vocab_size;
  const uint8_t* ends = context_.model().end_of_generation().data();
  for (size_t i = 0; i < lanes.size(); i++) {
    const LaneWork& work = lanes[i];
    const auto first = static_cast<int64_t>(i) * n;
    const std::span<Token> choices(choices_.data() + first, static_cast<size_t>(n));
    float* logits = context_.logits() + first * vocab;
    if (work.rules != nullptr) {
      work.rules->choose(logits, blocks_[i].tokens, blocks_[i].position, work.budget, work.choosing.sampling,
                         choices.data());
    }
    const Iteration& iteration = work.lane->advance(choices, work.budget, work.stop_at_end ? ends : nullptr);
    observer.took({work.index, &iteration, logits, context_.pass_milliseconds()});
  }
  observer.iterated();
  return result;
}

// Fills choices_ from the logits of the last pass, to which the lanes' biases are added in place.
void HostRunner::choose_tokens(std::span<const LaneWork> lanes, int block_size) {
  const int64_t vocab = context_.model().info().vocab_size;
  const int64_t rows = static_cast<int64_t>(lanes.size()) * block_size;
  choices_.resize(static_cast<size_t>(rows));
  samplings_.clear();
  biases_.clear();
  states_.clear();
  for (const LaneWork& work : lanes) {
    samplings_.push_back(work.choosing.sampling);
    biases_.push_back(work.choosing.bias ? work.choosing.bias->data() : nullptr);
    states_.push_back({.position = work.lane->position()});
  }
  bias({.logits = context_.logits(),
        .rows = rows,
        .vocab = vocab,
        .stride = vocab,
        .rows_per_lane = block_size,
        .biases = biases_.data()});
  choose({.logits = context_.logits(),
          .rows = rows,
          .vocab = vocab,
          .stride = vocab,
          .choices = choices_.data(),
          .sampling = samplings_.data(),
          .rows_per_lane = block_size,
          .lanes = states_.data(),
          .block = block_size});
}

}  // namespace cllm
