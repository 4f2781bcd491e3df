// Tests of the choice of the block size, on a made-up machine.

#include "decode/block_chooser.h"

#include <cmath>
#include <map>
#include <random>

#include "decode/draft_odds.h"
#include "unit_test.h"

using cllm::PassShape;

namespace {

struct Machine {
  double per_token;  // cost of a further token over that of the first
  double noise;
  int candidates = 1;  // candidates that are allowed
  // Added probability, for each doubling of the candidates, that the first draft token is right.
  double per_doubling = 0;

  double cost(const PassShape& shape) const { return 1 + per_token * static_cast<double>(shape.rows() - 1); }
  bool fits(const PassShape& shape) const {
    return shape.block <= 16 && shape.candidates <= (shape.block > 1 ? candidates : 1);
  }
  double first_right(double right, int count) const { return std::min(0.98, right + per_doubling * std::log2(count)); }
};

/// Tokens per millisecond that the chooser gets from the machine, over those of the best fixed shape.
/// In every second phase the machine is `slower` times as slow.
double share_of_best(const Machine& machine, const std::vector<double>& right_by_phase, int passes, uint64_t seed,
                     double slower = 1) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform;
  cllm::BlockChooser chooser;
  std::map<int, cllm::DraftOdds> odds;  // by the number of candidates
  for (int count = 1; count <= machine.candidates; count *= 2) odds[count] = cllm::DraftOdds(0.2f);
  double tokens = 0, time = 0, best_tokens = 0;
  double speed = slower;
  for (const double right : right_by_phase) {
    speed = speed == 1 ? 1 / slower : 1;
    double best_rate = 0;
    for (const int n : {1, 2, 4, 8, 16}) {
      for (const auto& [count, odds_of_count] : odds) {
        if (n == 1 && count > 1) continue;
        double emitted = 1, all = 1;
        for (int j = 1; j < n; j++) emitted += all *= j == 1 ? machine.first_right(right, count) : right;
        best_rate = std::max(best_rate, emitted / machine.cost({1, count, n}));
      }
    }
    for (int i = 0; i < passes; i++) {
      const PassShape shape = chooser.choose(
          1, [&](const PassShape& offered) { return machine.fits(offered); },
          [&](const PassShape& offered) { return odds.at(offered.candidates).emitted(offered.block); });
      const double first = uniform(random);
      int right_behind_first = 0;
      while (right_behind_first < 14 && uniform(random) < right) right_behind_first++;
      int accepted = 0;
      for (auto& [count, odds_of_count] : odds) {
        const int right_tokens = first < machine.first_right(right, count) ? 1 + right_behind_first : 0;
        if (count == shape.candidates) accepted = std::min(right_tokens, shape.block - 1);
        // A lane watches all candidates, verified or not, but its choices only where they were drafted.
        if (count > 1) odds_of_count.observe(right_tokens, true);
        if (count == 1 && shape.block > 1)
          odds_of_count.observe(std::min(right_tokens, shape.block - 1), right_tokens < shape.block - 1);
      }
      const double cost = machine.cost(shape) / speed;
      chooser.observe(shape, cost * (1 + machine.noise * (uniform(random) - 0.5)) * (random() % 50 == 0 ? 5 : 1));
      tokens += accepted + 1;
      time += cost;
      best_tokens += best_rate * cost * speed;
    }
  }
  return tokens / best_tokens;
}

// What blocks emit whose drafts are the choices that the iteration before left over.
void test_rolling_drafts() {
  for (const double right : {0.0, 0.5, 0.9, 1.0}) {
    cllm::DraftOdds odds(static_cast<float>(right));
    std::mt19937 random(1);
    for (int i = 0; i < 1000; i++) {
      int count = 0;
      while (count < 30 && std::uniform_real_distribution<double>()(random) < right) count++;
      odds.observe(count, count < 30);
    }
    for (const int n : {1, 2, 3, 8, 16, 32, 128}) {
      const double tokens = odds.emitted_rolling(n);
      const std::string where = "rolling drafts, " + std::to_string(right) + ", block " + std::to_string(n) + ": ";
      check(tokens >= 1 && tokens <= std::max(1.0, odds.emitted(n)) + 1e-9, where + "not more than by new drafts");
      check(tokens <= (n + 1) / 2.0 + 1e-9, where + "half of the block at most");
      if (right == 1.0 && n <= 32) check(std::abs(tokens - (n + 1) / 2.0) < 1e-6, where + std::to_string(tokens));
      if (right == 0.0) check(tokens < 1.01, where + std::to_string(tokens));
    }
  }
}

}  // namespace

void test_block_chooser() {
  test_rolling_drafts();
  for (const double per_token : {0.02, 0.1, 0.3, 0.6}) {
    for (const double right : {0.02, 0.3, 0.6, 0.85, 0.97}) {
      double worst = 1, sum = 0;
      for (uint64_t seed = 1; seed <= 10; seed++) {
        const double share = share_of_best({per_token, 0.2}, {right}, 2000, seed);
        worst = std::min(worst, share);
        sum += share / 10;
      }
      const std::string where =
          "a token more costs " + std::to_string(per_token) + ", drafts are right " + std::to_string(right);
      check(worst > 0.8 && sum > 0.93,
            "block chooser: " + where + ": " + std::to_string(worst) + ", " + std::to_string(sum));
      // Ordinary decoding is the best where blocks do not pay, and then nothing may be lost.
      if (right < 0.1 && per_token >= 0.1)
        check(worst > 0.98, "block chooser loses, " + where + ": " + std::to_string(worst));
    }
    // Candidates are taken where they pay. Where they do not pay, nothing is lost by them.
    for (const double per_doubling : {0.0, 0.15}) {
      for (const double right : {0.02, 0.3, 0.6}) {
        const double share = share_of_best({per_token, 0.2, 4, per_doubling}, {right}, 2000, 7);
        check(share > (right < 0.1 && per_doubling == 0 && per_token >= 0.1 ? 0.98 : 0.9),
              "block chooser with candidates: a token more costs " + std::to_string(per_token) + ", drafts are right " +
                  std::to_string(right) + ", a candidate brings " + std::to_string(per_doubling) + ": " +
                  std::to_string(share));
      }
    }
    // Drafts that become better and worse are noticed.
    const double changing = share_of_best({per_token, 0.2}, {0.05, 0.9, 0.05, 0.9}, 2000, 3);
    check(changing > 0.75,
          "block chooser follows changes, " + std::to_string(per_token) + ": " + std::to_string(changing));
    // A machine that becomes slower and faster does not lead it astray.
    const double slowing = share_of_best({per_token, 0.2}, {0.85, 0.85, 0.85, 0.85}, 500, 5, 2);
    check(slowing > 0.9,
          "block chooser on a changing machine, " + std::to_string(per_token) + ": " + std::to_string(slowing));
  }
}
