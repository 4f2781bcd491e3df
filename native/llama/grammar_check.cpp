#include "llama/grammar_check.h"

#include <algorithm>
#include <exception>
#include <vector>

#include "llama-grammar.h"
#include "llama/grammar_bounds.h"

namespace cllm {

namespace {

constexpr double kMaxPaths = 20'000;  // llama.cpp follows every path, and compares its end with those of all others
constexpr double kMaxSteps = 1e8;     // llama.cpp's check for left recursion reads a rule once for each path to it
constexpr size_t kMaxReasonLength = 200;

bool ends_alternative(const llama_grammar_element& element) {
  return element.type == LLAMA_GRETYPE_ALT || element.type == LLAMA_GRETYPE_END;
}

/// Tells for each rule whether one of its alternatives has no element. llama.cpp's check
/// knows only such empty rules.
std::vector<bool> directly_empty(const llama_grammar_rules& rules) {
  std::vector<bool> empty(rules.size());
  for (size_t i = 0; i < rules.size(); i++) {
    bool at_start = true;
    for (const auto& element : rules[i]) {
      if (at_start && ends_alternative(element)) empty[i] = true;
      at_start = ends_alternative(element);
    }
  }
  return empty;
}

/// Tells for each rule whether it may be empty, in time linear in the elements: an alternative counts the references in
/// it that are not yet known to be empty.
std::vector<bool> may_be_empty(const llama_grammar_rules& rules) {
  struct Alternative {
    size_t rule;
    size_t waiting_for;
  };
  std::vector<Alternative> alternatives;
  // By rule: the alternatives that consist of references and refer to the rule, once for each reference.
  std::vector<std::vector<size_t>> users(rules.size());
  std::vector<bool> empty = directly_empty(rules);
  for (size_t i = 0; i < rules.size(); i++) {
    for (size_t from = 0, to = 0; from < rules[i].size(); from = to + 1) {
      bool only_references = true;
      for (to = from; !ends_alternative(rules[i][to]); to++) {
        only_references = only_references && rules[i][to].type == LLAMA_GRETYPE_RULE_REF;
      }
      if (!only_references) continue;
      for (size_t at = from; at < to; at++) users[rules[i][at].value].push_back(alternatives.size());
      alternatives.push_back({i, to - from});
    }
  }
  std::vector<size_t> newly_empty;
  for (size_t i = 0; i < rules.size(); i++) {
    if (empty[i]) newly_empty.push_back(i);
  }
  while (!newly_empty.empty()) {
    const size_t rule = newly_empty.back();
    newly_empty.pop_back();
    for (const size_t user : users[rule]) {
      Alternative& alternative = alternatives[user];
      if (--alternative.waiting_for > 0 || empty[alternative.rule]) continue;
      empty[alternative.rule] = true;
      newly_empty.push_back(alternative.rule);
    }
  }
  return empty;
}

/// The rules that each rule may begin with: they stand first in an alternative, or behind rules that may be empty.
/// llama.cpp expands them at once, and does not see by itself that some expansions never end. Rules that begin with one
/// another form a circle. All of this takes time linear in the elements, and no function calls itself.
class Beginnings {
 public:
  Beginnings(const llama_grammar_rules& rules, const std::vector<bool>& empty)
      : rules_(rules), edges_(rules.size()), circle_(rules.size()) {
    for (size_t i = 0; i < rules.size(); i++) collect(rules[i], empty, edges_[i]);
    find_circles();
  }

  /// Tells whether a rule leads back to itself with something behind it: then the expansion grows for ever.
  bool never_ends() const {
    return any_edge_in_circle([](const Edge& edge) { return !edge.last; });
  }

  bool has_circle() const {
    return any_edge_in_circle([](const Edge&) { return true; });
  }

  /// Counts the paths from the rule that has the most, alternative by alternative. A circle counts as one rule.
  double most_paths() const {
    const std::vector<double> paths = sum_up([](const llama_grammar_rule& rule) {
      return static_cast<double>(std::count_if(rule.begin(), rule.end(), ends_alternative));
    });
    return paths.empty() ? 0 : *std::max_element(paths.begin(), paths.end());
  }

  /// Counts the elements that a search along every path from every rule reads.
  double steps() const {
    double sum = 0;
    for (const double steps : sum_up([](const llama_grammar_rule& rule) { return static_cast<double>(rule.size()); }))
      sum += steps;
    return sum;
  }

 private:
  struct Edge {
    size_t to;
    bool last;  // nothing stands behind it in its alternative
  };

  static void collect(const llama_grammar_rule& rule, const std::vector<bool>& empty, std::vector<Edge>& edges) {
    bool first = true;
    for (size_t i = 0; i < rule.size(); i++) {
      if (ends_alternative(rule[i])) {
        first = true;
      } else if (first && rule[i].type == LLAMA_GRETYPE_RULE_REF) {
        edges.push_back({rule[i].value, ends_alternative(rule[i + 1])});
        first = empty[rule[i].value];
      } else {
        first = false;
      }
    }
  }

  /// Tarjan's strongly connected components, on a stack of its own. A circle's number is larger than those of all that
  /// it leads to.
  void find_circles() {
    struct Frame {
      size_t rule;
      size_t next_edge;
    };
    constexpr size_t kNone = SIZE_MAX;
    std::vector<size_t> order(rules_.size(), kNone), lowest(rules_.size());
    std::vector<bool> open(rules_.size());
    std::vector<size_t> open_rules;
    std::vector<Frame> frames;
    size_t next_order = 0;
    for (size_t root = 0; root < rules_.size(); root++) {
      if (order[root] == kNone) frames.push_back({root, 0});
      while (!frames.empty()) {
        const size_t rule = frames.back().rule;
        if (order[rule] == kNone) {
          order[rule] = lowest[rule] = next_order++;
          open[rule] = true;
          open_rules.push_back(rule);
        }
        if (frames.back().next_edge < edges_[rule].size()) {
          const size_t to = edges_[rule][frames.back().next_edge++].to;
          if (order[to] == kNone) {
            frames.push_back({to, 0});
          } else if (open[to]) {
            lowest[rule] = std::min(lowest[rule], order[to]);
          }
          continue;
        }
        frames.pop_back();
        if (!frames.empty()) {
          size_t& parent = lowest[frames.back().rule];
          parent = std::min(parent, lowest[rule]);
        }
        if (lowest[rule] != order[rule]) continue;
        for (size_t member = kNone; member != rule;) {
          member = open_rules.back();
          open_rules.pop_back();
          open[member] = false;
          circle_[member] = circles_;
          finished_.push_back(member);
        }
        circles_++;
      }
    }
  }

  template <typename Condition>
  bool any_edge_in_circle(Condition condition) const {
    for (size_t i = 0; i < edges_.size(); i++) {
      for (const Edge& edge : edges_[i]) {
        if (circle_[edge.to] == circle_[i] && condition(edge)) return true;
      }
    }
    return false;
  }

  /// Adds up, for each circle, the values of its rules and the sums of the circles that they lead to.
  template <typename Value>
  std::vector<double> sum_up(Value value) const {
    std::vector<double> sums(circles_);
    for (const size_t rule : finished_) {
      double& sum = sums[circle_[rule]];
      sum += value(rules_[rule]);
      for (const Edge& edge : edges_[rule]) {
        if (circle_[edge.to] != circle_[rule]) sum += sums[circle_[edge.to]];
      }
    }
    return sums;
  }

  const llama_grammar_rules& rules_;
  std::vector<std::vector<Edge>> edges_;
  std::vector<size_t> circle_;    // by rule: the number of its circle
  std::vector<size_t> finished_;  // rules, circle after circle, in the order of their numbers
  size_t circles_ = 0;            // how many there are
};

std::string why_beginnings_refused(const llama_grammar_rules& rules) {
  const std::string left_recursion = "a rule begins with itself (left recursion)";
  const std::string too_many = "its rules begin with one another in too many ways";
  const Beginnings expansion(rules, may_be_empty(rules));
  if (expansion.never_ends()) return left_recursion;
  if (expansion.most_paths() > kMaxPaths) return too_many;
  const Beginnings recursion_check(rules, directly_empty(rules));
  if (recursion_check.has_circle()) return left_recursion;
  return recursion_check.steps() > kMaxSteps ? too_many : "";
}

}  // namespace

std::string why_no_grammar(const llama_vocab* vocab, const std::string& grammar) {
  std::string reason = why_bounds_refused(grammar);
  if (!reason.empty()) return reason;
  llama_grammar_parser parser(vocab);
  // This loop is llama_grammar_parser::parse() without its printing.
  try {
    for (const char* at = skip_grammar_space(grammar.c_str()); *at != '\0';) at = parser.parse_rule(at);
  } catch (const std::exception& error) {
    return std::string(error.what()).substr(0, kMaxReasonLength);
  }
  for (const auto& [name, id] : parser.symbol_ids) {
    if (id >= parser.rules.size() || parser.rules[id].empty()) return "there is no rule " + name;
  }
  if (parser.symbol_ids.count("root") == 0) return "there is no rule root";
  // Each rule of a chain is a frame of llama.cpp's check for recursion.
  if (parser.rules.size() > kMaxGrammarRules) {
    return "it has more than " + std::to_string(kMaxGrammarRules) + " rules";
  }
  return why_beginnings_refused(parser.rules);
}

}  // namespace cllm
