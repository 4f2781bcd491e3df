#include "llama/grammar_check.h"

#include <algorithm>
#include <exception>
#include <vector>

#include "llama-grammar.h"

namespace cllm {

namespace {

constexpr int kDeepest = 500;        // brackets within brackets: each is a frame of the parser's stack
constexpr size_t kMostRules = 4096;  // and each of those in a chain one of the check for recursion
constexpr double kMostPaths = 1e6;   // which follows every one of them
constexpr size_t kLongestReason = 200;

const char* skip_space(const char* at) {
  while (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n' || *at == '#') {
    if (*at++ == '#') {
      while (*at != '\0' && *at != '\n' && *at != '\r') at++;
    }
  }
  return at;
}

/// Of the brackets that are not in literals, character classes or comments.
int deepest_brackets(const char* at) {
  int depth = 0, deepest = 0;
  while (*(at = skip_space(at)) != '\0') {
    const char c = *at++;
    if (c == '"' || c == '[') {
      for (const char end = c == '"' ? '"' : ']'; *at != '\0' && *at != end; at++) {
        if (*at == '\\' && at[1] != '\0') at++;
      }
      if (*at != '\0') at++;
    }
    depth += (c == '(') - (c == ')');
    deepest = std::max(deepest, depth);
  }
  return deepest;
}

/// What a rule may begin with: rules that stand first in an alternative, or behind others that may be empty. llama.cpp
/// expands them at once, and does not see by itself that some never come to an end.
class Beginnings {
 public:
  explicit Beginnings(const llama_grammar_rules& rules) : empty_(rules.size()), edges_(rules.size()) {
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = 0; i < rules.size(); i++) {
        if (empty_[i] || !may_be_empty(rules[i])) continue;
        empty_[i] = changed = true;
      }
    }
    for (size_t i = 0; i < rules.size(); i++) collect(rules[i], edges_[i]);
  }

  /// Whether a rule comes back to itself in front of something else: then the expansion grows for ever.
  bool never_ends() const {
    for (size_t i = 0; i < edges_.size(); i++) {
      for (const Edge& edge : edges_[i]) {
        if (!edge.last && reaches(edge.to, i)) return true;
      }
    }
    return false;
  }

  /// From any rule, ways that come back not counted.
  double most_paths() const {
    std::vector<double> paths(edges_.size());  // 0: not known yet, -1: being counted
    double most = 0;
    for (size_t i = 0; i < edges_.size(); i++) most = std::max(most, count(i, paths));
    return most;
  }

 private:
  struct Edge {
    size_t to;
    bool last;  // nothing stands behind it in its alternative
  };

  static bool ends_alternative(const llama_grammar_element& element) {
    return element.type == LLAMA_GRETYPE_ALT || element.type == LLAMA_GRETYPE_END;
  }

  bool may_be_empty(const llama_grammar_rule& rule) const {
    bool all = true;
    for (const auto& element : rule) {
      if (ends_alternative(element)) {
        if (all) return true;
        all = true;
      } else {
        all = all && element.type == LLAMA_GRETYPE_RULE_REF && empty_[element.value];
      }
    }
    return false;
  }

  void collect(const llama_grammar_rule& rule, std::vector<Edge>& edges) const {
    bool first = true;
    for (size_t i = 0; i < rule.size(); i++) {
      if (ends_alternative(rule[i])) {
        first = true;
      } else if (first && rule[i].type == LLAMA_GRETYPE_RULE_REF) {
        edges.push_back({rule[i].value, ends_alternative(rule[i + 1])});
        first = empty_[rule[i].value];
      } else {
        first = false;
      }
    }
  }

  bool reaches(size_t from, size_t to) const {
    std::vector<bool> seen(edges_.size());
    std::vector<size_t> left{from};
    while (!left.empty()) {
      const size_t rule = left.back();
      left.pop_back();
      if (rule == to) return true;
      if (seen[rule]) continue;
      seen[rule] = true;
      for (const Edge& edge : edges_[rule]) left.push_back(edge.to);
    }
    return false;
  }

  double count(size_t rule, std::vector<double>& paths) const {
    if (paths[rule] != 0) return std::max(0.0, paths[rule]);
    paths[rule] = -1;
    double sum = 1;
    for (const Edge& edge : edges_[rule]) sum += count(edge.to, paths);
    return paths[rule] = sum;
  }

  std::vector<bool> empty_;
  std::vector<std::vector<Edge>> edges_;
};

}  // namespace

std::string why_no_grammar(const llama_vocab* vocab, const std::string& grammar) {
  if (deepest_brackets(grammar.c_str()) > kDeepest) {
    return "brackets are nested more than " + std::to_string(kDeepest) + " deep";
  }
  llama_grammar_parser parser(vocab);
  // As llama_grammar_parser::parse() but for the printing.
  try {
    for (const char* at = skip_space(grammar.c_str()); *at != '\0';) at = parser.parse_rule(at);
  } catch (const std::exception& error) {
    return std::string(error.what()).substr(0, kLongestReason);
  }
  for (const auto& [name, id] : parser.symbol_ids) {
    if (id >= parser.rules.size() || parser.rules[id].empty()) return "there is no rule " + name;
  }
  if (parser.symbol_ids.count("root") == 0) return "there is no rule root";
  if (parser.rules.size() > kMostRules) return "it has more than " + std::to_string(kMostRules) + " rules";
  Beginnings beginnings(parser.rules);
  if (beginnings.never_ends()) return "a rule begins with itself (left recursion)";
  if (beginnings.most_paths() > kMostPaths) return "its rules begin with one another in too many ways";
  return "";
}

}  // namespace cllm
