// Tests of candidates that are looked up in the text.

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "kernels/draft.h"
#include "unit_test.h"

/// Compares with the definition: the places with a key, the best first, but only the first for each next token.
void test_draft_candidates() {
  std::mt19937 random(9);
  for (int run = 0; run < 400; run++) {
    const int64_t size = 1 + static_cast<int64_t>(random() % 60), prompt = 1 + static_cast<int64_t>(random() % size);
    const int n = 2 + static_cast<int>(random() % 9), count = 1 + static_cast<int>(random() % cllm::kMaxCandidates);
    std::vector<cllm::Token> tokens(size);
    for (auto& token : tokens) token = static_cast<cllm::Token>(random() % 4);
    std::vector<cllm::Token> blocks(static_cast<size_t>(n) * count, -7);
    blocks[0] = tokens.back();
    cllm::draft_candidates(tokens.data(), size, prompt, 3, count, n, blocks.data());
    std::vector<std::pair<int64_t, int64_t>> places;  // length of the key, place
    for (int64_t place = 1; place < size; place++) {
      int64_t length = 0;
      while (length < 3 && length < place && tokens[place - 1 - length] == tokens[size - 1 - length]) length++;
      if (length > 0) places.push_back({length, place});
    }
    std::sort(places.rbegin(), places.rend());
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
