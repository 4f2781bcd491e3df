#include "decode/lane.h"

#include <algorithm>

#include "kernels/verify.h"

namespace cllm {

namespace {

/// The index of a lane has room for twice the text that the lane is given, and for this many tokens at least: it is
/// copied to the device, and most contexts are larger than their texts.
constexpr int64_t kMinIndexedTokens = 2048;

}  // namespace

Lane::Lane(int context_size)
    : max_index_bits_(TextIndex::bits_for(context_size)), index_(std::min<int64_t>(context_size, kMinIndexedTokens)) {}

std::span<const Token> Lane::prefill_tokens(int chunk) const {
  const int count = std::min(chunk, position() - written_);
  return std::span<const Token>(tokens_).subspan(static_cast<size_t>(written_), static_cast<size_t>(count));
}

int Lane::assign(std::vector<Token> tokens) {
  int common = 0;
  const int limit = std::min<int>(written_, static_cast<int>(tokens.size()) - 1);
  while (common < limit && tokens_[common] == tokens[common]) common++;
  tokens_.swap(tokens);
  index_text(tokens);
  written_ = common;
  prompt_size_ = static_cast<int>(tokens_.size());
  forget_draft();
  // What a lookup is worth depends on the text, so it is learned anew; what choices are worth depends on the model.
  for (int i = 0; i < kMaxKeyLength; i++) {
    lookup_odds_[i] = DraftOdds(kLookupPriors[i]);
    for (auto& [count, odds] : candidate_odds_) odds[i] = DraftOdds(std::max(kLookupPriors[i], choice_prior_));
  }
  if (!tokens_.empty()) watch_lookups();
  revision_++;
  return common;
}

// Brings the index from the text before to the lane's tokens.
void Lane::index_text(const std::vector<Token>& before) {
  const int32_t wanted =
      std::min(max_index_bits_, TextIndex::bits_for(std::max(2 * std::ssize(tokens_), kMinIndexedTokens)));
  const int32_t bits = index_.view().bits;
  if (wanted > bits || wanted + 2 < bits) {
    index_ = TextIndex(int64_t{1} << wanted);
  } else {
    const auto differs = std::mismatch(before.begin(), before.end(), tokens_.begin(), tokens_.end()).first;
    index_.shrink(before.data(), differs - before.begin());
  }
  index_.grow(tokens_.data(), std::ssize(tokens_));
}

void Lane::rollback(int position) {
  index_.shrink(tokens_.data(), position);
  tokens_.resize(static_cast<size_t>(position));
  written_ = std::min(written_, std::max(0, position - 1));
  prompt_size_ = std::min(prompt_size_, position);
  forget_draft();
  revision_++;
}

void Lane::lost_rows(int rows) {
  if (rows >= written_) return;
  written_ = rows;
  revision_++;
}

void Lane::forget_draft() {
  shift_ = 0;
  draft_is_set_ = false;
  choices_.clear();
  key_length_ = 0;
  watched_.clear();
}

std::span<const Token> Lane::block(int n, uint64_t seed, DraftMode mode) {
  block_.resize(static_cast<size_t>(n));
  stood_.resize(static_cast<size_t>(n));
  block_[0] = tokens_.back();
  const auto kept = static_cast<int32_t>(std::min(choices_.size(), static_cast<size_t>(n) - 1));
  std::copy_n(choices_.begin(), kept, block_.begin() + 1);
  if (draft_is_set_ && mode >= kDraftLookup) mode = kDraftChoices;
  drafted_choices_ = draft_is_set_ || key_length_ >= min_key_length(mode) ? 0 : kept;
  complete_draft(tokens_.data(), std::ssize(tokens_), index_.view(), prompt_size_, seed, mode, kept, n, block_.data());
  const auto before = shift_ > 0 ? static_cast<int32_t>(last_.block.size()) : 0;
  mark_stood(last_.block.data(), before, shift_, block_.data(), n, stood_.data());
  return block_;
}

void Lane::set_draft(std::span<const Token> draft) {
  forget_draft();
  choices_.assign(draft.begin(), draft.end());
  draft_is_set_ = true;
  revision_++;
}

void Lane::take_candidate(std::span<const Token> block) {
  for (size_t j = 1; j < block.size(); j++) stood_[j] = stood_[j] != 0 && block_[j] == block[j];
  block_.assign(block.begin(), block.end());
  revision_++;
}

const Iteration& Lane::advance(std::span<const Token> choices, int64_t budget, const uint8_t* end_of_generation) {
  const int n = static_cast<int>(choices.size());
  last_.position = position();
  last_.block = block_;
  last_.choices.assign(choices.begin(), choices.end());
  last_.accepted = count_accepted(block_.data(), choices.data(), n);
  last_.emitted = count_emitted(choices.data(), last_.accepted, budget, end_of_generation);
  last_.stationary = count_stationary(stood_.data(), last_.emitted - 1);

  observe(choices.first(static_cast<size_t>(last_.emitted)));
  tokens_.insert(tokens_.end(), choices.begin(), choices.begin() + last_.emitted);
  index_.grow(tokens_.data(), std::ssize(tokens_));
  written_ = position();  // the rows of block[0 .. emitted - 1] are right
  revision_++;
  draft_is_set_ = false;
  shift_ = last_.emitted;
  choices_.assign(choices.begin() + last_.emitted, choices.end());
  watch_lookups();
  return last_;
}

// Choices are observed where they were drafted. Lookups are observed even where they were not drafted, because the
// emitted tokens show what they would have been worth.
void Lane::observe(std::span<const Token> emitted) {
  if (drafted_choices_ > 0) {  // compared with the tokens, because another candidate may have won
    const auto end = choices_.begin() + std::min<std::ptrdiff_t>(drafted_choices_, std::ssize(emitted));
    const auto first_wrong = std::mismatch(choices_.begin(), end, emitted.begin()).first;
    choice_odds_.observe(static_cast<int>(first_wrong - choices_.begin()), first_wrong != end);
  }
  for (const Token token : emitted) {
    bool all_settled = true;
    for (WatchedDraft& draft : watched_) {
      if (draft.settled()) continue;
      if (draft.tokens[draft.right] == token) {
        draft.right++;
      } else {
        draft.wrong = true;
      }
      all_settled = all_settled && draft.settled();
    }
    if (all_settled && !watched_.empty()) learn_from_watched();
  }
}

void Lane::learn_from_watched() {
  const auto observe = [this](OddsByKey& odds, const WatchedDraft& draft) {
    odds[watched_key_length_ - 1].observe(static_cast<int>(draft.right), draft.wrong);
  };
  observe(lookup_odds_, watched_[1]);
  for (auto& [count, odds] : candidate_odds_) {
    const auto last = watched_.begin() + std::min<std::ptrdiff_t>(count, std::ssize(watched_));
    observe(odds, *std::max_element(watched_.begin(), last, [](const WatchedDraft& a, const WatchedDraft& b) {
              return std::pair(a.right, !a.wrong) < std::pair(b.right, !b.wrong);
            }));
  }
  watched_.clear();
}

DraftMode Lane::better_mode(int n) const {
  const double by_choices = choice_odds_.emitted_rolling(n);
  for (int length = 1; length <= kMaxKeyLength; length++) {
    if (lookup_odds_[length - 1].emitted(n) > by_choices) return static_cast<DraftMode>(kDraftLookup + length - 1);
  }
  return kDraftChoices;
}

double Lane::expected(int n, int candidates) const {
  const double by_choices = choice_odds_.emitted_rolling(n);
  if (key_length_ == 0) return by_choices;
  const double one_block = std::max(by_choices, lookup_odds_[key_length_ - 1].emitted(n));
  return candidates == 1 ? one_block : std::max(one_block, candidate_odds_.at(candidates)[key_length_ - 1].emitted(n));
}

// Looks up what may follow the lane's tokens now, and watches it unless earlier drafts are still being watched.
void Lane::watch_lookups() {
  std::array<Token, DraftOdds::kSlots + 1> block{tokens_.back()};
  const DraftView view{tokens_.data(), static_cast<int64_t>(tokens_.size()), block.data(), 0};
  Continuation from = find_continuation(view, index_.view());
  key_length_ = from.length;
  if (key_length_ == 0 || !watched_.empty()) return;
  watched_key_length_ = key_length_;
  const std::ptrdiff_t max_candidates = candidate_odds_.empty() ? 1 : candidate_odds_.rbegin()->first;
  watched_.push_back({max_candidates > 1 ? choices_ : std::vector<Token>{}});
  watched_[0].wrong = watched_[0].tokens.empty();
  std::vector<Token> first_tokens;
  while (from.length > 0) {
    for (int32_t slot = 1; slot < std::ssize(block); slot++) {
      block[static_cast<size_t>(slot)] = continued(view, from, slot);
    }
    watched_.push_back({{block.begin() + 1, block.end()}});
    if (std::ssize(watched_) >= max_candidates) break;
    first_tokens.push_back(block[1]);
    from = find_continuation(view, index_.view(), {first_tokens.data(), static_cast<int32_t>(first_tokens.size())});
  }
}

}  // namespace cllm
