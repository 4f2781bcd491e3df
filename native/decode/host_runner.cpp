#include "decode/host_runner.h"

#include "kernels/choose.h"

namespace cllm {

bool HostRunner::begin(std::span<const LaneRun> lanes, const PassShape& shape) {
  lanes_.assign(lanes.begin(), lanes.end());
  block_size_ = shape.block;
  return true;
}

PassResult HostRunner::iterate(int /*count*/) {
  pieces_.clear();
  outcomes_.clear();
  for (const LaneRun& run : lanes_) {
    const int position = static_cast<int>(run.lane->tokens().size()) - 1;
    pieces_.push_back({run.index, position, run.lane->block(block_size_, run.seed, run.draft_mode)});
  }
  const PassResult result = context_.decode(pieces_, true);
  if (result != PassResult::kOk) return result;

  const int64_t vocab = context_.model().info().vocab_size;
  const int64_t rows = static_cast<int64_t>(lanes_.size()) * block_size_;
  choices_.resize(static_cast<size_t>(rows));
  float* logits = context_.logits();
  samplings_.clear();
  biases_.clear();
  states_.clear();
  for (size_t i = 0; i < lanes_.size(); i++) {
    const Choosing& choosing = lanes_[i].choosing;
    samplings_.push_back(choosing.sampling);
    biases_.push_back(choosing.bias ? choosing.bias->data() : nullptr);
    states_.push_back({.position = pieces_[i].position});
  }
  bias({.logits = logits,
        .rows = rows,
        .vocab = vocab,
        .stride = vocab,
        .rows_per_lane = block_size_,
        .biases = biases_.data()});
  choose({.logits = logits,
          .rows = rows,
          .vocab = vocab,
          .stride = vocab,
          .choices = choices_.data(),
          .sampling = samplings_.data(),
          .rows_per_lane = block_size_,
          .lanes = states_.data(),
          .block = block_size_});
  const uint8_t* ends = context_.model().end_of_generation().data();
  for (size_t i = 0; i < lanes_.size(); i++) {
    LaneRun& run = lanes_[i];
    const auto first = static_cast<int64_t>(i) * block_size_;
    const auto choices =
        std::span<const Token>(choices_).subspan(static_cast<size_t>(first), static_cast<size_t>(block_size_));
    if (run.rules != nullptr) {
      run.rules->choose(logits + first * vocab, pieces_[i].tokens, pieces_[i].position, run.budget,
                        run.choosing.sampling, choices_.data() + first);
    }
    const Iteration& iteration = run.lane->advance(choices, run.budget, run.stop_at_end ? ends : nullptr);
    run.budget -= iteration.emitted;
    outcomes_.push_back({run.index, &iteration, logits + first * vocab});
  }
  return PassResult::kOk;
}

}  // namespace cllm
