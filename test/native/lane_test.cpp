// Tests of a lane: its Jacobi iterations on made-up "models", what it learns about drafts, stationary tokens.

#include "decode/lane.h"

#include <algorithm>
#include <random>
#include <vector>

#include "unit_test.h"

using cllm::Token;

namespace {

// A deterministic "model": the next token is a hash of the last `order` tokens. With small vocabularies guesses often
// come true.
Token next_token(const std::vector<Token>& tokens, size_t end, int order, int vocab, uint64_t salt) {
  uint64_t h = salt;
  for (size_t i = end >= static_cast<size_t>(order) ? end - static_cast<size_t>(order) : 0; i < end; i++) {
    h = (h ^ static_cast<uint64_t>(tokens[i])) * 0x9E3779B97F4A7C15ull;
    h ^= h >> 29;
  }
  return static_cast<Token>(h % static_cast<uint64_t>(vocab));
}

// A lane learns from its text what candidates are worth, whatever is drafted. Its choices get no credit for tokens that
// candidates bring.
void test_watched_candidates() {
  for (const int every : {1, 6}) {
    cllm::Lane lane;
    lane.watch_candidates(4);
    lane.assign({7, 100, 7, 101, 7});
    Token next = 101;
    for (int i = 0; i < 60; i++) {
      if (i % every != 0) next = 102 + i;
      for (const Token token : {next, Token{7}}) {
        lane.block(1, 1, cllm::kDraftChoices);
        lane.advance(std::vector<Token>{token}, 100, nullptr);
      }
    }
    const double found = lane.expected(2, 4);
    check(every == 1 ? found > 1.8 : found > 1.05 && found < 1.3,
          "candidates are right one time of " + std::to_string(every) + ": " + std::to_string(found));
  }
  cllm::Lane lane;
  lane.watch_candidates(2);
  lane.assign({1, 2, 3, 4, 5, 6, 1});
  const double by_choices = lane.expected(4);
  for (int i = 0; i < 30; i++) {
    lane.block(4, 1, cllm::kDraftChoices);
    const Token last = lane.tokens().back();
    const auto after = [last](int j) { return (last + j - 1) % 6 + 1; };
    if (i > 0) lane.take_candidate(std::vector<Token>{last, after(1), after(2), after(3)});
    // The choices for later positions are always wrong.
    lane.advance(std::vector<Token>{after(1), after(2), 50, 51}, 2, nullptr);
  }
  check(by_choices < 2, "choices promise little at first");
  cllm::Lane fresh = lane;
  fresh.assign({30, 31, 32});  // nothing to look up
  check(fresh.expected(4) < by_choices, "choices are not credited with a candidate's tokens");
}

void test_iterations() {
  std::mt19937_64 random(2);
  for (int run = 0; run < 3000; run++) {
    const int vocab = 2 + static_cast<int>(random() % 20), order = 1 + static_cast<int>(random() % 3);
    const uint64_t salt = random(), seed = random();
    std::vector<Token> prompt(1 + random() % 6);
    for (auto& token : prompt) token = static_cast<Token>(random() % static_cast<uint64_t>(vocab));
    const int64_t budget = 1 + static_cast<int64_t>(random() % 60);
    std::vector<uint8_t> ends(static_cast<size_t>(vocab), 0);
    if (random() % 2 == 0) ends[random() % ends.size()] = 1;

    std::vector<Token> expected = prompt;
    for (int64_t i = 0; i < budget; i++) {
      expected.push_back(next_token(expected, expected.size(), order, vocab, salt));
      if (ends[static_cast<size_t>(expected.back())] != 0) break;
    }

    cllm::Lane lane;
    lane.assign(prompt);
    while (lane.needs_prefill()) lane.prefilled(static_cast<int>(lane.prefill_tokens(2).size()));
    int64_t remaining = budget;
    int64_t iterations = 0, emitted = 0, stationary = 0;
    while (remaining > 0) {
      const int n = 1 + static_cast<int>(random() % 9);  // the block size may change at any time
      const auto block = lane.block(n, seed, static_cast<cllm::DraftMode>(random() % 5));
      std::vector<Token> all = lane.tokens();
      all.pop_back();
      std::vector<Token> choices;
      for (const Token token : block) {
        all.push_back(token);
        choices.push_back(next_token(all, all.size(), order, vocab, salt));
      }
      const cllm::Iteration& it = lane.advance(choices, remaining, ends.data());
      check(it.emitted >= 1 && it.emitted <= it.accepted + 1 && it.stationary <= it.emitted - 1, "lane: counts");
      check(lane.written() == static_cast<int>(lane.tokens().size()) - 1, "lane: written");
      remaining -= it.emitted;
      emitted += it.emitted;
      stationary += it.stationary;
      iterations++;
      if (ends[static_cast<size_t>(lane.tokens().back())] != 0) break;
      if (random() % 10 == 0)
        lane.rollback(static_cast<int>(lane.tokens().size()));  // drops the draft, keeps the tokens
    }
    check(lane.tokens() == expected, "lane: run " + std::to_string(run) + " differs from one token at a time");
    check(iterations <= emitted, "lane: at least one token per iteration");
    check(stationary <= emitted - iterations, "lane: stationary tokens are fast-forwarded ones");
  }
}

// Counts stationary tokens on a trajectory that is written out by hand: 5 stands at its place from the second iteration
// on although the token before it is still wrong, and is accepted in the third.
void test_stationary() {
  cllm::Lane lane;
  lane.assign({1, 2});
  lane.prefilled(1);
  const Token draft[] = {9, 9, 9};
  lane.block(4, 0, cllm::kDraftRandom);
  lane.set_draft(draft);
  lane.block(4, 0, cllm::kDraftRandom);
  check(lane.advance(std::vector<Token>{3, 8, 5, 6}, 100, nullptr).accepted == 0, "stationary: first");
  // tokens 1 2 3, block 3 8 5 6
  check(lane.block(4, 0, cllm::kDraftRandom)[1] == 8 && lane.block(4, 0, cllm::kDraftRandom)[2] == 5,
        "stationary: draft shifts");
  check(lane.advance(std::vector<Token>{4, 5, 6, 7}, 100, nullptr).accepted == 0, "stationary: second");
  // tokens 1 2 3 4, block 4 5 6 7: 5 and 6 stood there before
  const cllm::Iteration& third =
      lane.advance((lane.block(4, 0, cllm::kDraftRandom), std::vector<Token>{5, 6, 7, 8}), 100, nullptr);
  check(third.accepted == 3 && third.emitted == 4 && third.stationary == 2,
        "stationary: third, " + std::to_string(third.stationary));
}

}  // namespace

void test_lane() {
  test_iterations();
  test_watched_candidates();
  test_stationary();
}
