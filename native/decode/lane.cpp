#include "decode/lane.h"

#include <algorithm>

#include "kernels/verify.h"

namespace cllm {

namespace {

constexpr Token kNoToken = -1;
constexpr size_t kMostTails = 1024;  // tokens; the older half goes

}  // namespace

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
  tails_.clear();
  forget_draft();
  // Those are of the text; own choices are the model's.
  for (int i = 0; i < kLongestKey; i++) {
    looked_up_odds_[i] = DraftOdds(kLookedUp[i]);
    for (auto& [count, odds] : best_odds_) odds[i] = DraftOdds(std::max(kLookedUp[i], own_prior_));
  }
  if (!tokens_.empty()) look_up();
  revision_++;
  return common;
}

void Lane::rollback(int position) {
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
  carried_ = 0;
  given_ = false;
  own_.clear();
  key_ = 0;
  watched_.clear();
}

std::span<const Token> Lane::block(int n, uint64_t seed, DraftMode mode) {
  block_.resize(static_cast<size_t>(n));
  stood_.resize(static_cast<size_t>(n));
  block_[0] = tokens_.back();
  const auto kept = static_cast<int32_t>(std::min(own_.size(), static_cast<size_t>(n) - 1));
  std::copy_n(own_.begin(), kept, block_.begin() + 1);
  // A draft that was given stands.
  if (given_ && mode >= kDraftLookup) mode = kDraftFill;
  if (mode == kDraftRecycled) {
    own_used_ = draft_recycled(block_, kept, seed);
  } else {
    own_used_ = given_ || key_ >= least_key(mode) ? 0 : kept;
    const auto size = static_cast<int64_t>(tokens_.size());
    complete_draft(tokens_.data(), size, prompt_size_, seed, mode, kept, n, block_.data());
  }
  recycles_ = mode == kDraftRecycled;
  const auto before = carried_ > 0 ? static_cast<int32_t>(last_.block.size()) : 0;
  mark_stood(last_.block.data(), before, carried_, block_.data(), n, stood_.data());
  return block_;
}

// kDraftRecycled: of the own choices block[1 .. kept] those that are left in the draft, all or none.
int Lane::draft_recycled(std::span<Token> block, int32_t kept, uint64_t seed) const {
  std::vector<Token> held = tails_;
  held.push_back(kNoToken);
  held.insert(held.end(), tokens_.begin(), tokens_.end());
  const auto size = static_cast<int64_t>(held.size());
  const Begun not_the_end{&kNoToken, 1};  // of a tail: nothing is known to follow
  DraftView view{held.data(), size, block.data(), 0};
  Continuation from = find_continuation(view, not_the_end);
  if (from.length == 0) {
    view.drafted = kept;
    from = find_continuation(view, not_the_end);
  }
  bool follows = from.length > 0;
  for (int32_t slot = view.drafted + 1; slot < std::ssize(block); slot++) {
    const Token token = follows ? continued(view, from, slot) : kNoToken;
    follows = token != kNoToken;
    block[static_cast<size_t>(slot)] = follows ? token
                                               : random_prompt_token(tokens_.data(), prompt_size_, seed,
                                                                     static_cast<int64_t>(tokens_.size()) - 1 + slot);
  }
  return view.drafted;
}

void Lane::set_draft(std::span<const Token> draft) {
  forget_draft();
  own_.assign(draft.begin(), draft.end());
  given_ = true;
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

  observe(choices.first(static_cast<size_t>(last_.emitted)));
  tokens_.insert(tokens_.end(), choices.begin(), choices.begin() + last_.emitted);
  written_ = static_cast<int>(tokens_.size()) - 1;  // the rows of block[0 .. emitted - 1], all of them right
  revision_++;
  given_ = false;
  carried_ = last_.emitted;
  own_.assign(choices.begin() + last_.emitted, choices.end());
  if (recycles_) {
    tails_.push_back(kNoToken);
    tails_.insert(tails_.end(), choices.begin() + last_.emitted - 1, choices.end());
    if (tails_.size() > kMostTails) tails_.erase(tails_.begin(), tails_.begin() + kMostTails / 2);
  }
  look_up();
  return last_;
}

// Own choices are seen where they were drafted, what is looked up also where it was not: tokens come anyway.
void Lane::observe(std::span<const Token> emitted) {
  if (own_used_ > 0) {  // another candidate may have won
    const auto end = own_.begin() + std::min<std::ptrdiff_t>(own_used_, std::ssize(emitted));
    const auto right = static_cast<int>(std::mismatch(own_.begin(), end, emitted.begin()).first - own_.begin());
    own_odds_.observe(right, own_.begin() + right != end);
  }
  for (const Token token : emitted) {
    bool over = true;
    for (Watched& draft : watched_) {
      if (draft.over()) continue;
      if (draft.tokens[draft.right] == token) {
        draft.right++;
      } else {
        draft.wrong = true;
      }
      over = over && draft.over();
    }
    if (over && !watched_.empty()) settle();
  }
}

// What was watched is over.
void Lane::settle() {
  const Watched& looked_up = watched_[1];
  looked_up_odds_[watched_key_ - 1].observe(static_cast<int>(looked_up.right), looked_up.wrong);
  for (auto& [count, odds] : best_odds_) {
    const auto last = watched_.begin() + std::min<std::ptrdiff_t>(count, std::ssize(watched_));
    const auto best = std::max_element(watched_.begin(), last, [](const Watched& a, const Watched& b) {
      return std::pair(a.right, !a.wrong) < std::pair(b.right, !b.wrong);
    });
    odds[watched_key_ - 1].observe(static_cast<int>(best->right), best->wrong);
  }
  watched_.clear();
}

DraftMode Lane::better_mode(int n) const {
  const double own = own_odds_.emitted(n);
  for (int length = 1; length <= kLongestKey; length++) {
    if (looked_up_odds_[length - 1].emitted(n) > own) return static_cast<DraftMode>(kDraftLookup + length - 1);
  }
  return kDraftFill;
}

double Lane::expected(int n, int candidates) const {
  const double own = own_odds_.emitted(n);
  if (key_ == 0) return own;
  const double alone = std::max(own, looked_up_odds_[key_ - 1].emitted(n));
  return candidates == 1 ? alone : std::max(alone, best_odds_.at(candidates)[key_ - 1].emitted(n));
}

void Lane::look_up() {
  std::array<Token, DraftOdds::kSlots + 1> block{tokens_.back()};
  const DraftView view{tokens_.data(), static_cast<int64_t>(tokens_.size()), block.data(), 0};
  Continuation from = find_continuation(view);
  key_ = from.length;
  if (key_ == 0 || !watched_.empty()) return;
  watched_key_ = key_;
  const std::ptrdiff_t most = best_odds_.empty() ? 1 : best_odds_.rbegin()->first;
  watched_.push_back({most > 1 ? own_ : std::vector<Token>{}});
  watched_[0].wrong = watched_[0].tokens.empty();
  std::vector<Token> begun;
  while (from.length > 0) {
    for (int32_t slot = 1; slot < std::ssize(block); slot++)
      block[static_cast<size_t>(slot)] = continued(view, from, slot);
    watched_.push_back({{block.begin() + 1, block.end()}});
    if (std::ssize(watched_) >= most) break;
    begun.push_back(block[1]);
    from = find_continuation(view, {begun.data(), static_cast<int32_t>(begun.size())});
  }
}

}  // namespace cllm
