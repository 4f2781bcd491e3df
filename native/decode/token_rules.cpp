#include "decode/token_rules.h"

#include <algorithm>
#include <cmath>

#include "decode/error.h"
#include "decode/ggml_guard.h"
#include "kernels/choose.h"
#include "llama.h"
#include "llama/grammar_check.h"

namespace cllm {

void TokenRules::Free::operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }

TokenRules::TokenRules(const Model& model, const RuleOptions& options, std::span<const Token> prompt)
    : model_(model), options_(options) {
  for (const Token token : prompt) remember(token);
  if (options.grammar.empty()) return;
  const llama_vocab* vocab = llama_model_get_vocab(model.handle());
  std::string reason = why_no_grammar(vocab, options.grammar);
  clear_last_log_error();
  if (reason.empty()) grammar_.reset(llama_sampler_init_grammar(vocab, options.grammar.c_str(), "root"));
  if (grammar_) return;
  if (reason.empty()) reason = take_last_log_error();
  throw Error("CLLM_INVALID_GRAMMAR", "Expected a grammar in GBNF with a rule root: " + reason);
}

void TokenRules::choose(float* logits, std::span<const Token> block, int position, const Sampling& sampling,
                        Token* choices) {
  const int64_t vocab = model_.info().vocab_size;
  for (size_t j = 0; j < block.size(); j++) {
    float* row = logits + static_cast<int64_t>(j) * vocab;
    const LaneState before{.position = position + static_cast<int>(j)};
    const auto choose_again = [&] {
      cllm::choose({.logits = row,
                    .rows = 1,
                    .vocab = vocab,
                    .stride = vocab,
                    .choices = &choices[j],
                    .sampling = &sampling,
                    .lanes = &before});
    };
    if (!counts_.empty() && (options_.repeat != 1 || options_.frequency != 0 || options_.presence != 0)) {
      penalise(row);
      choose_again();
    }
    // Most often what is chosen is allowed; to ask that of the whole vocabulary takes milliseconds.
    if (grammar_ && !allows(choices[j], row[choices[j]])) {
      restrict(row);
      choose_again();
      stuck_ = !(row[choices[j]] > -INFINITY);
      if (stuck_) return;
    }
    remember(choices[j]);
    if (grammar_) llama_sampler_accept(grammar_.get(), choices[j]);
    const bool ends = model_.end_of_generation()[static_cast<size_t>(choices[j])] != 0;
    if (ends || j + 1 == block.size() || block[j + 1] != choices[j]) return;
  }
}

void TokenRules::penalise(float* row) const {
  for (const auto& [token, count] : counts_) {
    float& logit = row[token];
    logit = logit <= 0 ? logit * options_.repeat : logit / options_.repeat;
    logit -= static_cast<float>(count) * options_.frequency + options_.presence;
  }
}

bool TokenRules::allows(Token token, float logit) const {
  llama_token_data one{token, logit, 0};
  llama_token_data_array alone{&one, 1, -1, false};
  llama_sampler_apply(grammar_.get(), &alone);
  return one.logit > -INFINITY;
}

void TokenRules::restrict(float* row) {
  std::vector<llama_token_data> all(static_cast<size_t>(model_.info().vocab_size));
  for (size_t i = 0; i < all.size(); i++) all[i] = {static_cast<Token>(i), row[i], 0};
  llama_token_data_array array{all.data(), all.size(), -1, false};
  llama_sampler_apply(grammar_.get(), &array);
  for (const auto& [token, logit, p] : all) row[token] = logit;
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
