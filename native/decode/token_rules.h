#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/ggml_pointers.h"
#include "kernels/sampling.h"
#include "kernels/types.h"
#include "model/model.h"

namespace cllm {

/// Penalties as llama.cpp has them, over the last `window` tokens of prompt and answer, and a grammar in GBNF.
struct RuleOptions {
  std::string grammar;  // empty: none; its root is `root`
  float repeat = 1;     // a positive logit is divided by it, any other multiplied; 1: off
  float frequency = 0;  // subtracted once for each time that the token stands in the window
  float presence = 0;   // subtracted once where the token stands in the window
  int64_t window = 64;
  bool mask_always = false;  // forbidden tokens get the logit -inf in every row, for callers that read logits too
};

/// Rules by which the choice of a token depends on the tokens before it, in addition to logits and position. So the
/// tokens of a block cannot be chosen all at once. They are chosen one after another, each behind the accepted tokens,
/// and are exactly those that ordinary decoding would choose. A TokenRules belongs to one generation.
class TokenRules {
 public:
  /// Throws Error CLLM_INVALID_GRAMMAR.
  TokenRules(const Model& model, const RuleOptions& options, std::span<const Token> prompt);

  /// Replaces the choices [n] of a block [n] at `position` as far as they can be emitted, at most `budget` of them, and
  /// leaves the rest as it is. Changes the block's logits [n, vocab].
  void choose(float* logits, std::span<const Token> block, int position, int64_t budget, const Sampling& sampling,
              Token* choices);

  /// Why no token could be chosen for a position, or an empty string.
  const std::string& failure() const { return failure_; }
  /// How many tokens of the last choose() are in front of the position of the failure.
  int before_failure() const { return before_failure_; }

 private:
  void penalise(float* row) const;
  void choose_row(float* row, int position, const Sampling& sampling, Token& choice);
  bool allows(Token token, float logit) const;
  void restrict(float* row);
  void remember(Token token);

  const Model& model_;
  const RuleOptions options_;
  SamplerPointer grammar_;
  std::deque<Token> recent_;                   // tokens of the window
  std::unordered_map<Token, int32_t> counts_;  // of the tokens in recent_
  std::vector<Token> hidden_controls_;  // control tokens that end no generation; a grammar does not see their text
  std::string failure_;
  int before_failure_ = 0;
};

}  // namespace cllm
