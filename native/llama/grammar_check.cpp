#include "llama/grammar_check.h"

#include <algorithm>
#include <exception>

#include "llama-grammar.h"

namespace cllm {

namespace {

constexpr int kDeepest = 500;  // brackets within brackets; those in literals count too, which is too strict for nobody

}  // namespace

// As llama_grammar_parser::parse() but for the printing.
std::string why_no_grammar(const llama_vocab* vocab, const std::string& grammar) {
  int depth = 0, deepest = 0;
  for (const char c : grammar) {
    depth = std::max(0, depth + (c == '(') - (c == ')'));
    deepest = std::max(deepest, depth);
  }
  if (deepest > kDeepest) return "brackets are nested more than " + std::to_string(kDeepest) + " deep";
  llama_grammar_parser parser(vocab);
  const auto skip = [](const char* at) {
    while (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n' || *at == '#') {
      if (*at++ == '#') {
        while (*at != '\0' && *at != '\n' && *at != '\r') at++;
      }
    }
    return at;
  };
  try {
    for (const char* at = skip(grammar.c_str()); *at != '\0';) at = parser.parse_rule(at);
  } catch (const std::exception& error) {
    return error.what();
  }
  for (const auto& [name, id] : parser.symbol_ids) {
    if (id >= parser.rules.size() || parser.rules[id].empty()) return "there is no rule " + name;
  }
  return parser.symbol_ids.count("root") == 0 ? "there is no rule root" : "";
}

}  // namespace cllm
