#include "decode/token_rules.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "kernels/choose.h"
#include "llama/grammar_check.h"

namespace cllm {

TokenRules::TokenRules(const Model& model, const RuleOptions& options, std::span<const Token> prompt)
    : model_(model), options_(options) {
  for (const Token token : prompt) remember(token);
  if (options.grammar.empty()) return;
  for (Token token = 0; token < model.info().vocab_size; token++) {
    const bool control = (model.token_attributes(token) & LLAMA_TOKEN_ATTR_CONTROL) != 0;
    if (control && model.end_of_generation()[static_cast<size_t>(token)] == 0) hidden_controls_.push_back(token);
  }
  const GgmlGuard guard;
  const llama_vocab* vocab = llama_model_get_vocab(model.handle());
  std::string reason = why_no_grammar(vocab, options.grammar);
  clear_last_log_error();
  try {
    if (reason.empty()) grammar_.reset(llama_sampler_init_grammar(vocab, options.grammar.c_str(), "root"));
  } catch (const GgmlAbort& abort) {
    reason = abort.what();
  }
  if (grammar_) return;
  if (reason.empty()) reason = take_last_log_error();
  throw Error("CLLM_INVALID_GRAMMAR", "Expected a grammar in GBNF with a rule root: " + reason);
}

void TokenRules::choose(float* logits, std::span<const Token> block, int position, int64_t budget,
                        const Sampling& sampling, Token* choices) {
  const int64_t vocab = model_.info().vocab_size;
  const auto rows = static_cast<int>(std::min<int64_t>(static_cast<int64_t>(block.size()), budget));
  for (int j = 0; j < rows; j++) {
    try {
      const GgmlGuard guard;
      choose_row(logits + j * vocab, position + j, sampling, choices[j]);
    } catch (const std::exception& error) {
      failure_ = error.what();
      before_failure_ = j;
      return;
    }
    const bool ends = model_.end_of_generation()[static_cast<size_t>(choices[j])] != 0;
    if (ends || j + 1 == rows || block[static_cast<size_t>(j) + 1] != choices[j]) return;
  }
}

void TokenRules::choose_row(float* row, int position, const Sampling& sampling, Token& choice) {
  const LaneState before{.position = position};
  const int64_t vocab = model_.info().vocab_size;
  const auto choose_again = [&] {
    cllm::choose({.logits = row,
                  .rows = 1,
                  .vocab = vocab,
                  .stride = vocab,
                  .choices = &choice,
                  .sampling = &sampling,
                  .lanes = &before});
  };
  if (!counts_.empty() && (options_.repeat != 1 || options_.frequency != 0 || options_.presence != 0)) {
    penalise(row);
    choose_again();
  }
  // The chosen token is allowed most of the time, and asking about the whole vocabulary takes milliseconds.
  if (grammar_ && (options_.mask_always || !allows(choice, row[choice]))) {
    restrict(row);
    choose_again();
    if (!(row[choice] > -INFINITY)) throw std::runtime_error("no token of the vocabulary goes on as the grammar wants");
  }
  remember(choice);
  if (grammar_) llama_sampler_accept(grammar_.get(), choice);
}

void TokenRules::penalise(float* row) const {
  for (const auto& [token, count] : counts_) {
    float& logit = row[token];
    logit = logit <= 0 ? logit * options_.repeat : logit / options_.repeat;
    logit -= static_cast<float>(count) * options_.frequency + options_.presence;
  }
}

bool TokenRules::allows(Token token, float logit) const {
  if (std::binary_search(hidden_controls_.begin(), hidden_controls_.end(), token)) return false;
  llama_token_data data{token, logit, 0};
  llama_token_data_array alone{&data, 1, -1, false};
  llama_sampler_apply(grammar_.get(), &alone);
  return data.logit > -INFINITY;
}

void TokenRules::restrict(float* row) {
  std::vector<llama_token_data> all(static_cast<size_t>(model_.info().vocab_size));
  for (size_t i = 0; i < all.size(); i++) all[i] = {static_cast<Token>(i), row[i], 0};
  llama_token_data_array array{all.data(), all.size(), -1, false};
  llama_sampler_apply(grammar_.get(), &array);
  for (const auto& [token, logit, p] : all) row[token] = logit;
  for (const Token token : hidden_controls_) row[token] = -INFINITY;
}

void TokenRules::remember(Token token) {
  if (options_.window == 0) return;
  recent_.push_back(token);
  counts_[token]++;
  if (static_cast<int64_t>(recent_.size()) <= options_.window) return;
  const auto oldest = counts_.find(recent_.front());
  if (--oldest->second == 0) counts_.erase(oldest);
  recent_.pop_front();
}

}  // namespace cllm
