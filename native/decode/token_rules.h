#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/sampling.h"
#include "kernels/types.h"
#include "model/model.h"

struct llama_sampler;

namespace cllm {

/// Penalties as llama.cpp's, over the last `window` tokens of prompt and answer; and a grammar in GBNF.
struct RuleOptions {
  std::string grammar;  // empty: none; its root is `root`
  float repeat = 1;     // a positive logit is divided by it, another one multiplied; 1: off
  float frequency = 0;  // taken off once for each time that a token stands there
  float presence = 0;   // taken off where it stands there
  int64_t window = 64;
  bool mask_always = false;  // what the grammar forbids gets the logit -inf in every row, for who reads the logits too
};

/// What the choice of a token depends on beside logits and position: the tokens before it. So it cannot be chosen for
/// all positions of a block at once, but one after another, each behind the tokens that were accepted: exactly what
/// ordinary decoding would choose. Belongs to one generation.
class TokenRules {
 public:
  /// Throws Error CLLM_INVALID_GRAMMAR.
  TokenRules(const Model& model, const RuleOptions& options, std::span<const Token> prompt);

  /// choices [n] of a block [n] at `position` with its logits [n, vocab], which it changes: replaced as far as they can
  /// be emitted, at most `budget` of them; the rest is left as it is.
  void choose(float* logits, std::span<const Token> block, int position, int64_t budget, const Sampling& sampling,
              Token* choices);

  /// Why there is no token for a position, or an empty string; and how many of the last choices are in front of it.
  const std::string& failure() const { return failure_; }
  int before_failure() const { return before_failure_; }

 private:
  void penalise(float* row) const;
  void choose_row(float* row, int position, const Sampling& sampling, Token& choice);
  bool allows(Token token, float logit) const;
  void restrict(float* row);
  void remember(Token token);

  struct Free {
    void operator()(llama_sampler* sampler) const;
  };

  const Model& model_;
  const RuleOptions options_;
  std::unique_ptr<llama_sampler, Free> grammar_;
  std::deque<Token> recent_;
  std::unordered_map<Token, int32_t> counts_;  // of recent_
  std::vector<Token> silent_;                  // control tokens that end nothing: no text, so no grammar sees them
  std::string failure_;
  int before_failure_ = 0;
};

}  // namespace cllm
