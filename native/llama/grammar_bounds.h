#pragma once

#include <cstdint>
#include <string>

namespace cllm {

constexpr uint64_t kMaxGrammarRules = 4096;
constexpr uint64_t kMaxRepetitions = 2000;  // llama.cpp's own limit: its parser drops a larger maximum in silence
constexpr uint64_t kNoMaximum = UINT64_MAX;
constexpr uint64_t kMaxNumber = UINT64_MAX - 1;

/// Upper bounds of what llama.cpp's parser makes of a grammar.
struct GrammarSize {
  uint64_t generated_rules = 0;  // one for each bracket, and for each optional repetition; named rules are not counted
  uint64_t elements = 0;         // of all rules together, named ones included
};

/// Why a grammar is not given to llama.cpp's parser, or an empty string. The parser writes repetitions out without
/// looking at their size or order, and calls itself for every bracket. This function reads only the text: its time is
/// linear in the length, its memory is bounded, and it gives the parser nothing. `size` is filled if it is not null.
std::string why_bounds_refused(const std::string& grammar, GrammarSize* size = nullptr);

/// Why {minimum,maximum} is refused, or an empty string. `maximum` may be kNoMaximum.
std::string why_repetition_refused(uint64_t minimum, uint64_t maximum);

/// Reads digits. A number that does not fit becomes kMaxNumber.
const char* read_number(const char* at, uint64_t& number);

/// Skips blanks, line ends and comments.
const char* skip_grammar_space(const char* at);

}  // namespace cllm
