// What the suites cannot reach through the library: the kernels on rows that no model makes, the text stream cut
// everywhere, and the lane's Jacobi iteration on made-up "models". Prints one line per check; exit code 1 on a failure.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/limits.h"
#include "decode/block_chooser.h"
#include "decode/lane.h"
#include "decode/text_stream.h"
#include "kernels/advance.h"
#include "kernels/choose.h"
#include "kernels/verify.h"
#include "products/attention.h"
#include "products/bf16_product.h"
#include "products/quantized_product.h"

using cllm::PassShape;
using cllm::Token;

namespace {

int failures = 0;

void check(bool ok, const std::string& what) {
  if (ok) return;
  failures++;
  std::printf("FAILED %s\n", what.c_str());
}

// --- choose
// -----------------------------------------------------------------------------------------------------------

Token naive_choice(const float* row, int64_t vocab) {
  int64_t best = -1;
  for (int64_t i = 0; i < vocab; i++) {
    if (std::isnan(row[i])) continue;
    if (best < 0 || row[i] > row[best]) best = i;
  }
  return static_cast<Token>(best < 0 ? 0 : best);
}

void test_choose() {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int64_t vocab :
       {1, 3, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 4095, 32000, 49152, 128256, 151936, 151937}) {
    const auto pick = [&] { return static_cast<size_t>(random() % static_cast<uint64_t>(vocab)); };
    for (int kind = 0; kind < 12; kind++) {
      const int64_t rows = 3, stride = vocab + kind % 3;  // an odd stride misaligns the rows
      std::vector<float> logits(static_cast<size_t>(rows * stride + 1));
      for (auto& x : logits) {
        x = kind == 0   ? normal(random)
            : kind == 1 ? std::round(normal(random))  // many ties
            : kind == 2 ? (random() % 2 != 0 ? 0.0f : -0.0f)
            : kind == 3 ? -kInf
            : kind == 4 ? nan
            : kind == 5 ? (random() % 3 == 0 ? nan : normal(random))
            : kind == 6 ? (random() % 3 == 0 ? -kInf : nan)
            : kind == 7 ? (random() % 50 == 0 ? kInf : normal(random))
                        : -5.0f;
      }
      for (int64_t r = 0; r < rows; r++) {
        float* row = logits.data() + 1 + r * stride;
        if (kind == 8) row[pick()] = row[pick()] = 7.0f;  // two equal winners anywhere
        if (kind == 9) row[vocab - 1] = 7.0f;
        if (kind == 10) row[0] = nan, row[vocab - 1] = -4.0f;
        if (kind == 11) row[0] = row[vocab - 1] = std::numeric_limits<float>::denorm_min();
      }
      std::vector<Token> tokens(static_cast<size_t>(rows), -7);
      cllm::choose(
          {.logits = logits.data() + 1, .rows = rows, .vocab = vocab, .stride = stride, .choices = tokens.data()});
      for (int64_t r = 0; r < rows; r++) {
        const Token expected = naive_choice(logits.data() + 1 + r * stride, vocab);
        check(tokens[static_cast<size_t>(r)] == expected,
              "choose: vocab " + std::to_string(vocab) + ", kind " + std::to_string(kind) + ": " +
                  std::to_string(tokens[static_cast<size_t>(r)]) + " instead of " + std::to_string(expected));
      }
    }
  }
}

// --- stop rule
// --------------------------------------------------------------------------------------------------------

void test_stop_rule() {
  const std::vector<uint8_t> ends = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  const Token none[] = {1, 2, 3, 4};
  check(cllm::count_emitted(none, 3, 100, ends.data()) == 4, "stop rule: nothing ends");
  check(cllm::count_emitted(none, 3, 2, ends.data()) == 2, "stop rule: budget");
  check(cllm::count_emitted(none, 0, 100, ends.data()) == 1, "stop rule: at least one");
  for (int at = 0; at < 4; at++) {
    Token choices[] = {1, 2, 3, 4};
    choices[at] = 9;
    for (int accepted = 0; accepted < 4; accepted++) {
      const int expected = at <= accepted ? at + 1 : accepted + 1;
      check(cllm::count_emitted(choices, accepted, 100, ends.data()) == expected,
            "stop rule: end at " + std::to_string(at));
      check(cllm::count_emitted(choices, accepted, 100, nullptr) == accepted + 1, "stop rule: no ends");
    }
  }
}

// --- the lane
// ---------------------------------------------------------------------------------------------------------

// A deterministic "model": the next token is a hash of the last `order` tokens; small vocabularies make guesses come
// true.
Token next_token(const std::vector<Token>& tokens, size_t end, int order, int vocab, uint64_t salt) {
  uint64_t h = salt;
  for (size_t i = end >= static_cast<size_t>(order) ? end - static_cast<size_t>(order) : 0; i < end; i++) {
    h = (h ^ static_cast<uint64_t>(tokens[i])) * 0x9E3779B97F4A7C15ull;
    h ^= h >> 29;
  }
  return static_cast<Token>(h % static_cast<uint64_t>(vocab));
}

// A lane learns from its text what candidates are worth, whatever is drafted; its choices are not credited with what
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

void test_lane() {
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
    int64_t left = budget;
    int64_t iterations = 0, emitted = 0, stationary = 0;
    while (left > 0) {
      const int n = 1 + static_cast<int>(random() % 9);  // the block size may change at any time
      const auto block = lane.block(n, seed, static_cast<cllm::DraftMode>(random() % 5));
      std::vector<Token> all = lane.tokens();
      all.pop_back();
      std::vector<Token> choices;
      for (const Token token : block) {
        all.push_back(token);
        choices.push_back(next_token(all, all.size(), order, vocab, salt));
      }
      const cllm::Iteration& it = lane.advance(choices, left, ends.data());
      check(it.emitted >= 1 && it.emitted <= it.accepted + 1 && it.stationary <= it.emitted - 1, "lane: counts");
      check(lane.written() == static_cast<int>(lane.tokens().size()) - 1, "lane: written");
      left -= it.emitted;
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

// "Stationary" by its definition, on a trajectory written out by hand: 5 stands at its place from the second iteration
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

// --- the choice of the block size
// ------------------------------------------------------------------------------

/// Decoding under a made-up machine and made-up drafts: tokens per millisecond over those of the best fixed shape.
struct Machine {
  double per_token;  // cost of a further token over the first
  double noise;
  int candidates = 1;  // as many as are allowed
  double more = 0;     // what each doubling of the candidates adds to how often the first draft token is right

  double cost(const PassShape& shape) const { return 1 + per_token * static_cast<double>(shape.rows() - 1); }
  bool fits(const PassShape& shape) const {
    return shape.block <= 16 && shape.candidates <= (shape.block > 1 ? candidates : 1);
  }
  double first_right(double right, int count) const { return std::min(0.98, right + more * std::log2(count)); }
};

double regret(const Machine& machine, const std::vector<double>& right_by_phase, int passes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform;
  cllm::BlockChooser chooser;
  std::map<int, cllm::DraftOdds> odds;  // by the number of candidates
  for (int count = 1; count <= machine.candidates; count *= 2) odds[count] = cllm::DraftOdds(0.2f);
  double tokens = 0, time = 0, best_tokens = 0;
  for (const double right : right_by_phase) {
    double best_rate = 0;
    for (const int n : {1, 2, 4, 8, 16}) {
      for (const auto& [count, of] : odds) {
        if (n == 1 && count > 1) continue;
        double emitted = 1, all = 1;
        for (int j = 1; j < n; j++) emitted += all *= j == 1 ? machine.first_right(right, count) : right;
        best_rate = std::max(best_rate, emitted / machine.cost({1, count, n}));
      }
    }
    for (int i = 0; i < passes; i++) {
      const PassShape shape = chooser.choose(
          1, [&](const PassShape& it) { return machine.fits(it); },
          [&](const PassShape& it) { return odds.at(it.candidates).emitted(it.block); });
      const double first = uniform(random);
      int then = 0;
      while (then < 14 && uniform(random) < right) then++;
      int accepted = 0;
      for (auto& [count, of] : odds) {
        const int came = first < machine.first_right(right, count) ? 1 + then : 0;
        if (count == shape.candidates) accepted = std::min(came, shape.block - 1);
        // A lane watches what candidates would have been, but its choices only where they were drafted.
        if (count > 1) of.observe(came, true);
        if (count == 1 && shape.block > 1) of.observe(std::min(came, shape.block - 1), came < shape.block - 1);
      }
      const double cost = machine.cost(shape);
      chooser.observe(shape, cost * (1 + machine.noise * (uniform(random) - 0.5)) * (random() % 50 == 0 ? 5 : 1));
      tokens += accepted + 1;
      time += cost;
      best_tokens += best_rate * cost;
    }
  }
  return tokens / best_tokens;
}

void test_block_chooser() {
  for (const double per_token : {0.02, 0.1, 0.3, 0.6}) {
    for (const double right : {0.02, 0.3, 0.6, 0.85, 0.97}) {
      double worst = 1, sum = 0;
      for (uint64_t seed = 1; seed <= 10; seed++) {
        const double found = regret({per_token, 0.2}, {right}, 2000, seed);
        worst = std::min(worst, found);
        sum += found / 10;
      }
      const std::string where =
          "a token more costs " + std::to_string(per_token) + ", drafts are right " + std::to_string(right);
      check(worst > 0.8 && sum > 0.93,
            "block chooser: " + where + ": " + std::to_string(worst) + ", " + std::to_string(sum));
      // Where blocks do not pay nothing may be lost: it is ordinary decoding.
      if (right < 0.1 && per_token >= 0.1)
        check(worst > 0.98, "block chooser loses, " + where + ": " + std::to_string(worst));
    }
    // Candidates: taken where they pay, and else nothing is lost by them.
    for (const double more : {0.0, 0.15}) {
      for (const double right : {0.02, 0.3, 0.6}) {
        const double found = regret({per_token, 0.2, 4, more}, {right}, 2000, 7);
        check(found > (right < 0.1 && more == 0 && per_token >= 0.1 ? 0.98 : 0.9),
              "block chooser with candidates: a token more costs " + std::to_string(per_token) + ", drafts are right " +
                  std::to_string(right) + ", a candidate brings " + std::to_string(more) + ": " +
                  std::to_string(found));
      }
    }
    // Drafts that become better and worse are noticed.
    const double changing = regret({per_token, 0.2}, {0.05, 0.9, 0.05, 0.9}, 2000, 3);
    check(changing > 0.75,
          "block chooser follows changes, " + std::to_string(per_token) + ": " + std::to_string(changing));
  }
}

// --- text
// -------------------------------------------------------------------------------------------------------------

std::string stream(const std::string& bytes, const std::vector<std::string>& stop, std::mt19937& random, bool whole) {
  cllm::TextStream text(stop);
  std::string all;
  size_t at = 0;
  while (at < bytes.size()) {
    const size_t length = whole ? bytes.size() : 1 + random() % 4;
    const bool stopped = text.push(std::string_view(bytes).substr(at, length));
    const std::string ready = text.take();
    for (const auto& s : stop) check(ready.find(s) == std::string::npos, "text: a stop string leaked");
    all += ready;
    if (stopped) return all;
    at += length;
  }
  text.finish();
  return all + text.take();
}

void test_text() {
  std::mt19937 random(3);
  const std::vector<std::string> alphabet = {"a",    "b",        "ab",   "é",    "€",           "🦊",
                                             "\xff", "\xf0\x9f", "\xc3", "\x80", "\xed\xa0\x80"};
  for (int run = 0; run < 20000; run++) {
    std::string bytes;
    for (size_t i = 0, n = random() % 12; i < n; i++) bytes += alphabet[random() % alphabet.size()];
    std::vector<std::string> stop;
    for (size_t i = 0, n = random() % 3; i < n; i++) {
      std::string s = alphabet[random() % 6];
      if (random() % 2 == 0) s += alphabet[random() % 6];
      stop.push_back(s);
    }
    const std::string whole = stream(bytes, stop, random, true);
    const std::string cut = stream(bytes, stop, random, false);
    check(stop.empty() ? whole == cut : whole.size() <= bytes.size() * 3, "text: run " + std::to_string(run));
    for (const auto& s : stop) check(cut.find(s) == std::string::npos, "text: a stop string in the result");
  }
  cllm::TextStream text({"STOP", "TOP!"});
  check(!text.push("ab ST") && text.take() == "ab ", "text: holds back what may become a stop string");
  check(!text.push("AR") && text.take() == "STAR", "text: lets go of what did not");
  check(text.push("xSTOP!y") && text.take() == "x", "text: ends right before it");
}

// --- BF16 products
// ----------------------------------------------------------------------------------------------------

float from_bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

/// Leaves NaNs on the stack, where a padding that was not zeroed would take them from.
__attribute__((noinline)) void soil_stack() {
  volatile unsigned char bytes[1 << 15];
  for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = i % 2 == 0 ? 0xff : 0x7f;
}

// Against a plain loop; and the same to the bit for every number of columns, panels together or one by one.
void test_bf16_product() {
  if (!cllm::has_bf16_product()) return;
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  for (const int64_t k : {2, 30, 34, 64, 576, 1030}) {
    const int64_t pairs = k / 2, most = 37;
    std::vector<uint16_t> rows(64 * k), columns(most * k);
    for (auto* all : {&rows, &columns}) {
      for (auto& value : *all) {
        const float number = normal(random);
        cllm::round_to_bf16(&number, &value, 1);
      }
    }
    for (const int registers : {1, 2}) {
      const int64_t panel = registers * cllm::kPanelLanes, panels = 64 / panel, outputs = 64;
      std::vector<uint32_t> packed(pairs * outputs);
      for (int64_t i = 0; i < panels; i++) {
        cllm::pack_panel(rows.data() + i * panel * k, k * 2, registers, pairs, packed.data() + i * pairs * panel);
      }
      std::vector<float> all(most * outputs);
      const auto multiply = [&](int64_t first, int64_t count, int64_t columns_, float* c, bool add) {
        soil_stack();
        cllm::panel_product(packed.data() + first * pairs * panel, registers, count, pairs, columns.data(), k * 2,
                            columns_, c, outputs, add);
      };
      multiply(0, panels, most, all.data(), false);
      bool right = true, same = true, added = true;
      for (int64_t j = 0; j < most; j++) {
        for (int64_t r = 0; r < outputs; r++) {
          double sum = 0;
          for (int64_t i = 0; i < k; i++) sum += double(from_bf16(rows[r * k + i])) * from_bf16(columns[j * k + i]);
          right = right && std::abs(sum - all[j * outputs + r]) < 1e-4 * std::sqrt(static_cast<double>(k));
        }
      }
      for (int64_t count = 1; count <= most; count++) {
        std::vector<float> some(count * outputs), apart(count * outputs), twice(count * outputs, 3.0f);
        multiply(0, panels, count, some.data(), false);
        for (int64_t i = 0; i < panels; i++) multiply(i, 1, count, apart.data() + i * panel, false);
        same = same && std::memcmp(some.data(), all.data(), some.size() * sizeof(float)) == 0 && some == apart;
        multiply(0, panels, count, twice.data(), true);
        for (size_t i = 0; i < twice.size(); i++) added = added && std::abs(twice[i] - some[i] - 3) < 1e-3;
      }
      check(right, "bf16 product k=" + std::to_string(k));
      check(same, "bf16 product: every number of columns and panels, k=" + std::to_string(k));
      check(added, "bf16 product: added to what was there, k=" + std::to_string(k));
    }
  }
}

// --- candidates
// --------------------------------------------------------------------------------------------------------

/// By the definition: every place with a key, best first, each other next token once.
void test_candidates() {
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

// --- quantised products
// ----------------------------------------------------------------------------------------------------

float from_f16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float value = std::ldexp(static_cast<float>(fraction + (exponent != 0 ? 1024 : 0)), std::max(exponent, 1) - 25);
  return (bits & 0x8000) != 0 ? -value : value;
}

/// Rows of random blocks as they lie in a GGUF file, and what they stand for.
struct QuantizedRows {
  std::vector<uint8_t> bytes;
  std::vector<float> values;  // [rows, k]
};

class RowMaker {
 public:
  explicit RowMaker(std::mt19937& random) : random_(random) {}

  /// Of Q4_0, Q4_1 and Q8_0: a block.
  void block(cllm::BlockFormat format) {
    const bool nibbles = format != cllm::BlockFormat::kQ8_0;
    const float scale = half(), min = format == cllm::BlockFormat::kQ4_1 ? half() : 0;
    std::vector<int> quants(32);
    for (auto& q : quants) q = static_cast<int>(random_() % (nibbles ? 16 : 256));
    for (int i = 0; i < (nibbles ? 16 : 32); i++) put(nibbles ? quants[i] | quants[i + 16] << 4 : quants[i]);
    for (const int q : quants) {
      const int number = format == cllm::BlockFormat::kQ4_0 ? q - 8 : nibbles ? q : static_cast<int8_t>(q);
      made.values.push_back(scale * static_cast<float>(number) + min);
    }
  }

  void q4_k() {
    const float scale = half(), min = half();
    int scales[8], mins[8], quants[256];
    for (auto* list : {scales, mins}) {
      for (int i = 0; i < 8; i++) list[i] = static_cast<int>(random_() % 64);
    }
    for (auto& q : quants) q = static_cast<int>(random_() % 16);
    for (int i = 0; i < 4; i++) put(scales[i] | scales[i + 4] >> 4 << 6);
    for (int i = 0; i < 4; i++) put(mins[i] | mins[i + 4] >> 4 << 6);
    for (int i = 4; i < 8; i++) put((scales[i] & 15) | (mins[i] & 15) << 4);
    for (int part = 0; part < 256; part += 64) {
      for (int i = 0; i < 32; i++) put(quants[part + i] | quants[part + 32 + i] << 4);
    }
    for (int i = 0; i < 256; i++) {
      const auto of = [&](const int* list) { return static_cast<float>(list[i / 32]); };
      made.values.push_back(scale * of(scales) * static_cast<float>(quants[i]) - min * of(mins));
    }
  }

  void q6_k() {
    int quants[256], scales[16];
    for (auto& q : quants) q = static_cast<int>(random_() % 64);
    for (auto& s : scales) s = static_cast<int>(random_() % 256) - 128;
    for (int part = 0; part < 256; part += 128) {
      const int* q = quants + part;
      for (int i = 0; i < 64; i++) put((q[i] & 15) | (q[i + 64] & 15) << 4);
    }
    for (int part = 0; part < 256; part += 128) {
      const int* q = quants + part;
      for (int i = 0; i < 32; i++) {
        put(q[i] >> 4 | q[i + 32] >> 4 << 2 | q[i + 64] >> 4 << 4 | q[i + 96] >> 4 << 6);
      }
    }
    for (const int s : scales) put(s);
    const float scale = half();
    for (int i = 0; i < 256; i++) {
      made.values.push_back(scale * static_cast<float>(scales[i / 16]) * static_cast<float>(quants[i] - 32));
    }
  }

  QuantizedRows made;

 private:
  void put(int byte) { made.bytes.push_back(static_cast<uint8_t>(byte)); }
  float half() {
    const auto bits = static_cast<uint16_t>((random_() & 0x83ff) | (8 + random_() % 4) << 10);
    put(bits & 0xff);
    put(bits >> 8);
    return from_f16(bits);
  }
  std::mt19937& random_;
};

QuantizedRows random_rows(cllm::BlockFormat format, int64_t rows, int64_t blocks, std::mt19937& random) {
  RowMaker maker(random);
  for (int64_t block = 0; block < rows * blocks; block += cllm::block_multiple(format)) {
    if (format == cllm::BlockFormat::kQ4_K) {
      maker.q4_k();
    } else if (format == cllm::BlockFormat::kQ6_K) {
      maker.q6_k();
    } else {
      maker.block(format);
    }
  }
  return std::move(maker.made);
}

// Against a plain loop over the weights and rounded columns; and the same to the bit for every number of columns and
// every share of the rows.
void test_quantized_product() {
  if (!cllm::has_quantized_product()) return;
  using cllm::BlockFormat;
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const auto format :
       {BlockFormat::kQ4_0, BlockFormat::kQ4_1, BlockFormat::kQ8_0, BlockFormat::kQ4_K, BlockFormat::kQ6_K}) {
    for (const int64_t count : {1, 3, 18}) {
      const int64_t blocks = count * cllm::block_multiple(format);
      const int64_t rows = 48, k = blocks * 32, most = 37;
      const QuantizedRows weights = random_rows(format, rows, blocks, random);
      const std::string name =
          "quantised product " + std::to_string(static_cast<int>(format)) + " of " + std::to_string(blocks) + " blocks";
      std::vector<uint8_t> packed(cllm::packed_bytes(format, rows, blocks));
      check(packed.size() >= weights.bytes.size() && packed.size() * 100 <= weights.bytes.size() * 103,
            name + ": bytes");
      cllm::pack_blocks(format, weights.bytes.data(), rows, blocks, packed.data());
      std::vector<float> x(most * k);
      for (auto& value : x) value = normal(random);
      std::fill_n(x.begin() + k, 32, 0.0f);        // a block of zeros
      std::fill_n(x.begin() + 2 * k, 32, 1e-38f);  // and one next to it
      const size_t size = cllm::rounded_bytes(format, blocks);
      std::vector<char> rounded(most * size);
      for (int64_t j = 0; j < most; j++) {
        cllm::round_to_blocks(format, x.data() + j * k, blocks, rounded.data() + j * size);
      }
      const auto multiply = [&](int64_t first, int64_t end, int64_t columns, float* c) {
        cllm::quantized_product(format, packed.data(), rows, blocks, first, end, rounded.data(), columns, c, rows);
      };
      std::vector<float> all(most * rows);
      multiply(0, rows, most, all.data());
      double worst = 0;
      for (int64_t j = 0; j < most; j++) {
        std::vector<double> column(k);
        for (int64_t i = 0; i < k; i++) {
          const auto block = x.begin() + j * k + i / 32 * 32;
          float largest = 0;
          std::for_each(block, block + 32, [&](float value) { largest = std::max(largest, std::abs(value)); });
          column[i] = largest > 1e-30f ? double(largest / 127) * std::nearbyint(x[j * k + i] * (127 / largest)) : 0;
        }
        for (int64_t r = 0; r < rows; r++) {
          double sum = 0, sizes = 1e-30;
          for (int64_t i = 0; i < k; i++) {
            sum += column[i] * weights.values[r * k + i];
            sizes += std::abs(column[i] * weights.values[r * k + i]);
          }
          worst = std::max(worst, std::abs(sum - all[j * rows + r]) / sizes);
        }
      }
      check(worst < 1.0 / 1024,
            name + ": right to the precision of an F16 scale and sum, worst " + std::to_string(worst));
      bool same = true;
      for (int64_t count = 1; count <= most; count++) {
        std::vector<float> some(count * rows), shares(count * rows);
        multiply(0, rows, count, some.data());
        multiply(0, 16, count, shares.data());
        multiply(16, 48, count, shares.data());
        same = same && std::memcmp(some.data(), all.data(), some.size() * sizeof(float)) == 0 && some == shares;
      }
      check(same, name + ": every number of columns and shares of rows");
      for (const float strange : {INFINITY, -INFINITY, NAN}) {
        std::vector<float> column(x.begin(), x.begin() + k);
        column[k - 1] = strange;
        cllm::round_to_blocks(format, column.data(), blocks, rounded.data());
        std::vector<float> c(2 * rows);
        multiply(0, rows, 2, c.data());
        const bool seen = std::all_of(c.begin(), c.begin() + rows, [](float value) { return std::isnan(value); });
        check(seen && std::equal(c.begin() + rows, c.end(), all.begin() + rows), name + ": what is not finite");
      }
    }
  }
}

// --- attention
// --------------------------------------------------------------------------------------------------------

/// Against the definition in double; and every row by itself, and with other hidden cells behind, gives the same bits.
void test_attention() {
  if (!cllm::has_attention()) return;
  constexpr uint16_t kHidden = 0xfc00, kNan = 0x7e00;  // -inf, and what a cell that nobody sees may hold
  std::mt19937 random(6);
  std::normal_distribution<float> normal;
  const auto half = [&] {
    return static_cast<uint16_t>((random() % 2 << 15) | ((8 + random() % 8) << 10) | random() % 1024);
  };
  for (const size_t size : {16, 32, 64, 80, 128, 256}) {
    for (const size_t cells : {16, 48, 256, 512}) {
      for (const size_t rows : {1, 2, 3, 4, 7, 16}) {
        std::vector<uint16_t> k(cells * size), v(cells * size), mask(rows * cells, kHidden);
        std::vector<float> q(rows * size), out(rows * size), alone(size), scratch(cllm::attention_scratch(cells, size));
        for (auto& x : k) x = half();
        for (auto& x : v) x = half();
        for (auto& x : q) x = normal(random);
        const size_t position = random() % (cells - rows + 1);
        const bool none = rows == 3 && cells == 48;  // its first row sees nothing
        for (size_t r = none ? 1 : 0; r < rows; r++) {
          for (size_t i = 0; i <= position + r; i++) mask[r * cells + i] = i > 0 && random() % 9 == 0 ? kHidden : 0;
        }
        for (size_t i = 0; i < cells; i++) {
          bool seen = false;
          for (size_t r = 0; r < rows; r++) seen = seen || mask[r * cells + i] == 0;
          for (size_t d = 0; d < size && !seen; d++) k[i * size + d] = v[i * size + d] = kNan;
        }
        const auto bytes = [](const auto& values) { return reinterpret_cast<const char*>(values.data()); };
        cllm::AttentionArgs args{.q = bytes(q),
                                 .q_stride = size * 4,
                                 .k = bytes(k),
                                 .k_stride = size * 2,
                                 .v = bytes(v),
                                 .v_stride = size * 2,
                                 .mask = bytes(mask),
                                 .mask_stride = cells * 2,
                                 .out = reinterpret_cast<char*>(out.data()),
                                 .out_stride = size * 4,
                                 .rows = static_cast<int64_t>(rows),
                                 .cells = static_cast<int64_t>(cells),
                                 .size = static_cast<int64_t>(size),
                                 .scale = 0.3f};
        cllm::attend(args, scratch.data());
        bool right = true, same = true;
        for (size_t r = 0; r < rows; r++) {
          std::vector<double> weights(cells, 0);
          double most = -INFINITY, sum = 0;
          for (size_t i = 0; i < cells; i++) {
            if (mask[r * cells + i] != 0) continue;
            for (size_t d = 0; d < size; d++) weights[i] += double(q[r * size + d]) * from_f16(k[i * size + d]);
            most = std::max(most, weights[i] * 0.3);
          }
          for (size_t i = 0; i < cells; i++) {
            weights[i] = mask[r * cells + i] != 0 ? 0 : std::exp(weights[i] * 0.3 - most);
            sum += weights[i];
          }
          for (size_t d = 0; d < size; d++) {
            double expected = 0;
            for (size_t i = 0; i < cells; i++) {
              if (weights[i] > 0) expected += weights[i] / sum * from_f16(v[i * size + d]);
            }
            right = right && std::abs(out[r * size + d] - expected) < 1e-4;
          }
          cllm::AttentionArgs one = args;
          one.q += r * one.q_stride;
          one.mask += r * one.mask_stride;
          one.out = reinterpret_cast<char*>(alone.data());
          one.rows = 1;
          if (position + rows <= cells / 2 && cells % 32 == 0) one.cells /= 2;
          cllm::attend(one, scratch.data());
          same = same && std::memcmp(alone.data(), &out[r * size], size * 4) == 0;
        }
        // The last cells elsewhere, behind a gap: as a candidate's.
        const size_t gap = 16 * (1 + random() % 2) + random() % 16, wide = (cells + gap + 15) / 16 * 16;
        const size_t prefix = position;  // cells from here on move
        std::vector<uint16_t> far_k(wide * size, kNan), far_v(wide * size, kNan), far_mask(rows * wide, kHidden);
        for (size_t i = 0; i < cells; i++) {
          const size_t to = i < prefix ? i : i + gap;
          std::copy_n(k.begin() + i * size, size, far_k.begin() + to * size);
          std::copy_n(v.begin() + i * size, size, far_v.begin() + to * size);
          for (size_t r = 0; r < rows; r++) far_mask[r * wide + to] = mask[r * cells + i];
        }
        std::vector<float> far_out(rows * size), far_scratch(cllm::attention_scratch(wide, size));
        cllm::AttentionArgs moved = args;
        moved.k = bytes(far_k);
        moved.v = bytes(far_v);
        moved.mask = bytes(far_mask);
        moved.mask_stride = wide * 2;
        moved.out = reinterpret_cast<char*>(far_out.data());
        moved.cells = static_cast<int64_t>(wide);
        cllm::attend(moved, far_scratch.data());
        const bool anywhere = std::memcmp(far_out.data(), out.data(), out.size() * sizeof(float)) == 0;
        const std::string where = "head of " + std::to_string(size) + ", " + std::to_string(cells) + " cells, " +
                                  std::to_string(rows) + " rows";
        check(right, "attention: " + where);
        check(same, "attention: rows alone, " + where);
        check(anywhere, "attention: cells elsewhere, " + where);
      }
    }
  }
}

}  // namespace

int main() {
  test_attention();
  test_bf16_product();
  test_quantized_product();
  test_candidates();
  test_choose();
  test_stop_rule();
  test_lane();
  test_watched_candidates();
  test_stationary();
  test_block_chooser();
  test_text();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
