#pragma once

#include <string>

struct llama_vocab;

namespace cllm {

/// Why llama.cpp would not take a grammar, or an empty string. llama.cpp's parser writes the reason to stderr,
/// and limits neither its recursion nor its repetitions: grammar_bounds.h says what is refused before the parser sees
/// the text.
std::string why_no_grammar(const llama_vocab* vocab, const std::string& grammar);

}  // namespace cllm
