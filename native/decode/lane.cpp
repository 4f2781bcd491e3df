#include "decode/lane.h"

#include <algorithm>

#include "kernels/advance.h"
#include "kernels/draft.h"
#include "kernels/verify.h"

namespace cllm {

std::span<const Token> Lane::prefill_piece(int chunk) const {
  const int count = std::min<int>(chunk, static_cast<int>(tokens_.size()) - 1 - written_);
  return std::span<const Token>(tokens_).subspan(static_cast<size_t>(written_), static_cast<size_t>(count));
}

int Lane::assign(std::vector<Token> tokens) {
  int common = 0;
  const int limit = std::min<int>(written_, static_cast<int>(tokens.size()) - 1);
  while (common < limit && tokens_[common] == tokens[common]) common++;
  tokens_ = std::move(tokens);
  written_ = common;
  prompt_size_ = static_cast<int>(tokens_.size());
  drafted_ = 0;
  revision_++;
  return common;
}

void Lane::rollback(int position) {
  tokens_.resize(static_cast<size_t>(position));
  written_ = std::min(written_, std::max(0, position - 1));
  prompt_size_ = std::min(prompt_size_, position);
  drafted_ = 0;
  revision_++;
}

void Lane::lost_rows(int rows) {
  if (rows >= written_) return;
  written_ = rows;
  revision_++;
}

std::span<const Token> Lane::block(int n, uint64_t seed) {
  block_.resize(static_cast<size_t>(n));
  stood_.resize(static_cast<size_t>(n));
  block_[0] = tokens_.back();
  drafted_ = std::min(drafted_, n - 1);
  const int64_t position = static_cast<int64_t>(tokens_.size()) - 1;
  for (int j = drafted_ + 1; j < n; j++) {
    block_[j] = random_prompt_token(tokens_.data(), prompt_size_, seed, position + j);
    stood_[j] = 0;
  }
  drafted_ = n - 1;
  return block_;
}

void Lane::set_draft(std::span<const Token> draft) {
  block_.assign(1, tokens_.back());
  block_.insert(block_.end(), draft.begin(), draft.end());
  stood_.assign(block_.size(), 0);
  drafted_ = static_cast<int>(draft.size());
  revision_++;
}

void Lane::take_candidate(std::span<const Token> block) {
  for (size_t j = 1; j < block.size(); j++) stood_[j] = stood_[j] != 0 && block_[j] == block[j];
  block_.assign(block.begin(), block.end());
  revision_++;
}

const Iteration& Lane::advance(std::span<const Token> choices, int64_t budget, const uint8_t* end_of_generation) {
  const int n = static_cast<int>(choices.size());
  last_.position = static_cast<int>(tokens_.size()) - 1;
  last_.block = block_;
  last_.choices.assign(choices.begin(), choices.end());
  last_.accepted = count_accepted(block_.data(), choices.data(), n);
  last_.emitted = count_emitted(choices.data(), last_.accepted, budget, end_of_generation);
  last_.stationary = count_stationary(stood_.data(), last_.emitted - 1);

  tokens_.insert(tokens_.end(), choices.begin(), choices.begin() + last_.emitted);
  written_ = static_cast<int>(tokens_.size()) - 1;  // the rows of block[0 .. emitted - 1], all of them right
  revision_++;
  drafted_ = advance_draft(last_.block.data(), choices.data(), n, last_.emitted, block_.data() + 1, stood_.data());
  return last_;
}

}  // namespace cllm
