#pragma once

#include <string>

struct llama_vocab;

namespace cllm {

/// Why llama.cpp would not take a grammar, or an empty string. Its own parser writes that to stderr, and its recursion
/// has no limit: a grammar of a hundred thousand brackets would end the process.
std::string why_no_grammar(const llama_vocab* vocab, const std::string& grammar);

}  // namespace cllm
