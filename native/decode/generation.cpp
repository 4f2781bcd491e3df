#include "decode/generation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cllm {

namespace {

Logprobs logprobs_of(const float* row, int64_t vocab, Token chosen, int count) {
  const auto less = [&](Token a, Token b) { return std::isnan(row[a]) ? !std::isnan(row[b]) : row[a] < row[b]; };
  std::vector<Token> order(static_cast<size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  const float largest = row[*std::max_element(order.begin(), order.end(), less)];
  double sum = 0;
  for (int64_t i = 0; i < vocab; i++) sum += std::isnan(row[i]) ? 0 : std::exp(static_cast<double>(row[i]) - largest);
  const double log_sum = largest + std::log(sum);
  const auto logprob = [&](Token token) { return static_cast<float>(row[token] - log_sum); };
  Logprobs result{.chosen = logprob(chosen), .top = {}};
  const auto end = order.begin() + std::min<int64_t>(count, vocab);
  std::partial_sort(order.begin(), end, order.end(),
                    [&](Token a, Token b) { return less(b, a) || (!less(a, b) && a < b); });
  // A banned or forbidden token is no alternative.
  for (auto token = order.begin(); token != end && row[*token] > -INFINITY; token++) {
    result.top.emplace_back(*token, logprob(*token));
  }
  return result;
}

}  // namespace

int Generation::accept(const Iteration& iteration, const float* logits, int valid) {
  int taken = 0;
  const char* reason = "";
  while (taken < std::min(valid, iteration.emitted) && *reason == '\0') {
    const Token token = iteration.choices[static_cast<size_t>(taken++)];
    if (params.logprobs >= 0 && logits != nullptr) {
      const int64_t vocab = model_.info().vocab_size;
      logprobs_.push_back(logprobs_of(logits + (taken - 1) * vocab, vocab, token, params.logprobs));
    }
    tokens_.push_back(token);
    budget--;
    if (model_.end_of_generation()[static_cast<size_t>(token)] != 0) {
      reason = "eog";
      break;
    }
    std::string piece;
    model_.append_piece(token, params.render_special, piece);
    if (text_.push(piece)) {
      reason = "stop";
    } else if (budget == 0) {
      reason = "length";
    }
  }
  stats.iterations++;
  stats.block_sizes[static_cast<int>(iteration.block.size())]++;
  stats.candidates[iteration.candidates]++;
  stats.emitted_tokens += taken;
  stats.fast_forwarded_tokens += taken - 1;
  stats.stationary_tokens += std::min(iteration.stationary, taken - 1);
  ready_ += text_.take();
  if (*reason != '\0') finish(reason);
  return taken;
}

void Generation::finish(const char* reason) {
  finish_reason_ = reason;
  text_.finish();
  ready_ += text_.take();
}

Event Generation::take_chunk() {
  Event event{.type = Event::Type::kChunk, .id = id};
  // Tokens wait for their text, so that a chunk never shows half a character; the last chunk takes all that remain.
  if (ready_.empty() && !finished()) return event;
  event.tokens.assign(tokens_.begin() + static_cast<std::ptrdiff_t>(sent_tokens_), tokens_.end());
  sent_tokens_ = tokens_.size();
  answer_ += ready_;
  event.text.swap(ready_);
  return event;
}

Event Generation::done() {
  answer_ += ready_;
  ready_.clear();
  Event event{.type = Event::Type::kDone, .id = id};
  event.text = answer_;
  event.tokens = tokens_;
  event.logprobs = logprobs_;
  event.reason = finish_reason_;
  event.stats = stats;
  return event;
}

}  // namespace cllm
