#include "decode/generation.h"

#include <algorithm>

namespace cllm {

int Generation::accept(const Iteration& iteration) {
  int taken = 0;
  const char* reason = "";
  while (taken < iteration.emitted && *reason == '\0') {
    const Token token = iteration.choices[static_cast<size_t>(taken++)];
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
  // Tokens wait for their text, so that a chunk never shows half a character; the last chunk takes what is left.
  if (ready_.empty() && !finished()) return event;
  event.tokens.assign(tokens_.begin() + static_cast<std::ptrdiff_t>(sent_), tokens_.end());
  sent_ = tokens_.size();
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
  event.reason = finish_reason_;
  event.stats = stats;
  return event;
}

}  // namespace cllm
