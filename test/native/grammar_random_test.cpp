// Random grammars with numbers around the limits, and long chains of rules.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "grammar_test.h"
#include "llama/grammar_check.h"

namespace {

std::string rule_name(uint64_t rule) { return std::string("r").append(std::to_string(rule)); }

std::string some_count() {
  const std::string minimum = std::to_string(some_number());
  switch (below(8)) {
    case 0: return "*";
    case 1: return "+";
    case 2: return "?";
    case 3: return "{" + minimum + "}";
    case 4: return "{" + minimum + ",}";
    default: return "{" + minimum + " , " + std::to_string(some_number()) + "}";
  }
}

std::string some_expression(int rules, int depth) {
  static const std::vector<std::string> terminals = {"\"ab\\\"c{5}\"", "[a-z{}\\]]", "[^-#(]", ".",
                                                     "\"\"",           "\"\\x41é\"", "[]"};
  std::string text;
  for (uint64_t symbols = 1 + below(3); symbols > 0; symbols--) {
    const uint64_t kind = below(6);
    if (kind == 0 && depth > 0) {
      text += "(" + some_expression(rules, depth - 1) + ")";
    } else if (kind < 3) {
      text += rule_name(below(static_cast<uint64_t>(rules)));
    } else {
      text += terminals[below(terminals.size())];
    }
    while (below(3) == 0) text += some_count();
    text += below(8) == 0 ? " | " : " ";
  }
  return text;
}

std::string some_grammar() {
  const int rules = 1 + static_cast<int>(below(6));
  std::string text = "root ::= r0\n";
  for (int i = 0; i < rules; i++) {
    text += rule_name(static_cast<uint64_t>(i)) + " ::= " + some_expression(rules, 3) + "# (((\n";
  }
  return text;
}

/// The check of grammar_check.cpp, written as plainly as possible: whether a rule comes back to itself at its
/// beginning.
bool comes_back(const llama_grammar_rules& rules, bool directly) {
  const auto ends = [](const llama_grammar_element& element) {
    return element.type == LLAMA_GRETYPE_ALT || element.type == LLAMA_GRETYPE_END;
  };
  std::vector<bool> empty(rules.size());
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < rules.size(); i++) {
      bool all = true;
      for (const auto& element : rules[i]) {
        if (ends(element)) {
          if (all && !empty[i]) empty[i] = changed = true;
          all = true;
        } else {
          all = all && !directly && element.type == LLAMA_GRETYPE_RULE_REF && empty[element.value];
        }
      }
    }
  }
  std::vector<std::vector<bool>> reaches(rules.size(), std::vector<bool>(rules.size()));
  std::vector<std::pair<size_t, size_t>> growing;
  for (size_t i = 0; i < rules.size(); i++) {
    bool first = true;
    for (size_t j = 0; j < rules[i].size(); j++) {
      const auto& element = rules[i][j];
      if (first && element.type == LLAMA_GRETYPE_RULE_REF) {
        reaches[i][element.value] = true;
        if (directly || !ends(rules[i][j + 1])) growing.emplace_back(i, element.value);
        first = empty[element.value];
      } else {
        first = ends(element);
      }
    }
  }
  for (size_t via = 0; via < rules.size(); via++) {
    for (size_t from = 0; from < rules.size(); from++) {
      for (size_t to = 0; to < rules.size() && reaches[from][via]; to++) {
        if (reaches[via][to]) reaches[from][to] = true;
      }
    }
  }
  return std::any_of(growing.begin(), growing.end(),
                     [&](const auto& edge) { return edge.first == edge.second || reaches[edge.second][edge.first]; });
}

}  // namespace

void test_random_grammars() {
  int accepted = 0, initialised = 0, recursive = 0;
  for (int i = 0; i < 20'000; i++) {
    const std::string grammar = some_grammar();
    cllm::GrammarSize size;
    if (!cllm::why_bounds_refused(grammar, &size).empty()) continue;
    accepted++;
    const Parsed parsed = parse(grammar);
    check(parsed.elements <= size.elements, "elements of\n" + grammar);
    check(parsed.rules <= size.generated_rules + parsed.named, "rules of\n" + grammar);
    const std::string reason = cllm::why_no_grammar(nullptr, grammar);
    if (!parsed.whole) check(!reason.empty(), "no grammar is accepted:\n" + grammar);
    const bool refused_as_left_recursive = reason.find("left recursion") != std::string::npos;
    if ((refused_as_left_recursive || reason.empty()) && parsed.rules < 100) {
      check(refused_as_left_recursive == (comes_back(parsed.all, false) || comes_back(parsed.all, true)),
            "left recursion:\n" + grammar);
      recursive += refused_as_left_recursive ? 1 : 0;
    }
    if (!reason.empty() || parsed.rules > 200) continue;
    check(initialise(grammar) != nullptr, "llama.cpp takes\n" + grammar);
    initialised++;
  }
  check(accepted > 2000 && initialised > 500 && recursive > 100,
        "of 20,000 random grammars " + std::to_string(accepted) + ", " + std::to_string(initialised) + " and " +
            std::to_string(recursive) + " are of use");
}

/// Tests the check's own time and stack on as many rules as there may be, which begin with one another.
void test_long_chains() {
  for (const char* body : {"r%", "r% | \"b\"", "\"\" | r%", "e r%", "r% e", "r% | e"}) {
    std::string grammar = "root ::= r0\ne ::= \"\" | \"c\"\n";
    for (uint64_t i = 0; i < 4000; i++) {
      std::string next = body;
      next.replace(next.find('%'), 1, std::to_string(i + 1));
      grammar += rule_name(i) + " ::= " + next + "\n";
    }
    const std::string reason = cllm::why_no_grammar(nullptr, grammar + "r4000 ::= \"a\"\n");
    check(reason.empty() || reason.find("too many ways") != std::string::npos, std::string(body) + ": " + reason);
    const std::string circle = cllm::why_no_grammar(nullptr, grammar + "r4000 ::= r0 \"a\"\n");
    check(circle.find("left recursion") != std::string::npos, std::string(body) + " in a circle: " + circle);
  }
}
