// Tests of candidates that are looked up in the text, and of the index that finds them.

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "kernels/draft.h"
#include "unit_test.h"

namespace {

/// The places whose `length` tokens in front are the text's last ones, in the order in which find_place() meets them:
/// the latest first, among the kMaxPlaces latest of all whose key is in that bucket.
std::vector<int64_t> places_of(const std::vector<cllm::Token>& tokens, const cllm::PlaceIndex& index, int32_t length) {
  const auto size = std::ssize(tokens);
  std::vector<int64_t> places;
  if (length > size) return places;
  const int64_t bucket = index.bucket(length, cllm::key_before(tokens.data(), size, length));
  int seen = 0;
  for (int64_t place = size - 1; place >= length && seen < cllm::kMaxPlaces; place--) {
    if (index.bucket(length, cllm::key_before(tokens.data(), place, length)) != bucket) continue;
    seen++;
    if (std::equal(tokens.end() - length, tokens.end(), tokens.begin() + place - length)) places.push_back(place);
  }
  return places;
}

/// Texts that grow and shrink have the index of a text that never was another.
void test_place_index() {
  std::mt19937 random(5);
  for (int run = 0; run < 200; run++) {
    const int64_t capacity = 1 + static_cast<int64_t>(random() % 100);
    cllm::TextIndex index(capacity);
    std::vector<cllm::Token> tokens;
    for (int step = 0; step < 12; step++) {
      const size_t keep = random() % (tokens.size() + 1);
      index.shrink(tokens.data(), static_cast<int64_t>(keep));
      tokens.resize(keep);
      const size_t more = random() % 40;  // longer than promised, too
      for (size_t i = 0; i < more; i++) tokens.push_back(static_cast<cllm::Token>(random() % 5));
      index.grow(tokens.data(), std::ssize(tokens));
      const cllm::TextIndex copy = index;
      cllm::TextIndex fresh(capacity);
      fresh.grow(tokens.data(), std::ssize(tokens));
      const auto buckets = static_cast<size_t>(cllm::kMaxKeyLength) << fresh.view().bits;
      const auto links = static_cast<size_t>(std::max<int64_t>(fresh.places(), 1)) * cllm::kMaxKeyLength;
      const bool same = index.places() == fresh.places() &&
                        std::equal(copy.view().latest, copy.view().latest + buckets, fresh.view().latest) &&
                        (fresh.places() == 1 ||
                         std::equal(copy.view().earlier + 3, copy.view().earlier + links, fresh.view().earlier + 3));
      check(same, "place index: run " + std::to_string(run) + ", step " + std::to_string(step));
    }
  }
}

/// In a long text whose tokens are distributed as in natural language (Zipf), nearly all lookups find what a search of
/// the whole text finds.
void test_long_text() {
  std::mt19937 random(6);
  std::vector<double> weights;
  for (int i = 0; i < 5000; i++) weights.push_back(1.0 / (i + 2));
  std::discrete_distribution<cllm::Token> zipf(weights.begin(), weights.end());
  std::vector<cllm::Token> tokens(30'000);
  for (auto& token : tokens) token = zipf(random) * 7919 % 150'000;
  cllm::TextIndex index(std::ssize(tokens));
  int found = 0, expected = 0;
  for (int64_t size = 20'000; size <= std::ssize(tokens); size += 37) {
    index.grow(tokens.data(), size);
    for (int32_t length = 1; length <= cllm::kMaxKeyLength; length++) {
      int64_t latest = size - 1;
      const auto key = tokens.begin() + size - length;
      while (latest >= length && !std::equal(key, key + length, tokens.begin() + latest - length)) latest--;
      if (latest < length) continue;
      expected++;
      const cllm::DraftView view{tokens.data(), size, tokens.data() + size - 1, 0};
      found += cllm::find_place(view, index.view(), length, {nullptr, 0}) == latest;
    }
  }
  check(expected > 200 && found >= expected * 0.99,
        "long text: " + std::to_string(found) + " of " + std::to_string(expected) + " places found");
}

}  // namespace

/// Compares with the definition: the places with a key, the best first, but only the first for each next token.
void test_draft_candidates() {
  test_place_index();
  test_long_text();
  std::mt19937 random(9);
  for (int run = 0; run < 400; run++) {
    const int64_t size = 1 + static_cast<int64_t>(random() % 60), prompt = 1 + static_cast<int64_t>(random() % size);
    const int n = 2 + static_cast<int>(random() % 9), count = 1 + static_cast<int>(random() % cllm::kMaxCandidates);
    std::vector<cllm::Token> tokens(size);
    for (auto& token : tokens) token = static_cast<cllm::Token>(random() % 4);
    std::vector<cllm::Token> blocks(static_cast<size_t>(n) * count, -7);
    blocks[0] = tokens.back();
    cllm::TextIndex index(size);
    index.grow(tokens.data(), size);
    cllm::draft_candidates(tokens.data(), size, index.view(), prompt, 3, count, n, blocks.data());
    std::vector<std::pair<int32_t, int64_t>> places;  // length of the key, place
    for (int32_t length = cllm::kMaxKeyLength; length > 0; length--) {
      for (const int64_t place : places_of(tokens, index.view(), length)) places.push_back({length, place});
    }
    std::vector<cllm::Token> begun;
    size_t next = 0;
    bool right = true;
    for (int c = 1; c < count; c++) {
      while (next < places.size() && std::count(begun.begin(), begun.end(), tokens[places[next].second]) > 0) next++;
      std::vector<cllm::Token> text = tokens;
      for (int slot = 1; slot < n; slot++) {
        text.push_back(next < places.size() ? text[places[next].second + slot - 1]
                                            : cllm::random_prompt_token(tokens.data(), prompt,
                                                                        cllm::candidate_seed(3, c), size - 1 + slot));
      }
      if (next < places.size()) begun.push_back(tokens[places[next].second]);
      right = right && std::equal(text.begin() + size - 1, text.end(), blocks.begin() + c * n);
    }
    check(right, "candidates: run " + std::to_string(run));
  }
}
