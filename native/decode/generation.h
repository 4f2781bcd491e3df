#pragma once

#include <string>
#include <vector>

#include "decode/command.h"
#include "decode/text_stream.h"
#include "model/model.h"

namespace cllm {

/// A running `generate`: what it has emitted, its text so far, and whether it is over.
class Generation {
 public:
  Generation(const Command& command, const Model& model, int64_t budget)
      : id(command.id), params(command.generate), budget(budget), model_(model), text_(params.stop) {
    stats.prompt_tokens = static_cast<int64_t>(command.tokens.size());
  }

  /// Takes the emitted tokens of an iteration one by one until a stop rule holds; returns how many it took. Only the
  /// first `valid` of the emitted tokens are right. `logits` [n, vocab] are the block's, and needed only for logprobs.
  int accept(const Iteration& iteration, const float* logits, int valid);
  /// Ends the generation: text that was held back for stop strings goes out.
  void finish(const char* reason);
  bool finished() const { return *finish_reason_ != '\0'; }

  /// The chunk that has become ready since the last call; its text and tokens are empty when there is none.
  Event take_chunk();
  Event done();

  const uint32_t id;
  const GenerateParams params;
  int64_t budget;  // tokens that may still be emitted
  Stats stats;

 private:
  const Model& model_;
  TextStream text_;
  std::vector<Token> tokens_;  // all emitted tokens
  std::vector<Logprobs> logprobs_;
  size_t sent_tokens_ = 0;  // tokens_ that went out in chunks
  std::string answer_;      // all text that has become ready
  std::string ready_;       // text for the next chunk
  const char* finish_reason_ = "";
};

}  // namespace cllm
