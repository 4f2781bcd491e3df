// Bounds of grammars and JSON schemas, without a model: the check's limits by their numbers, and random grammars and
// schemas with numbers around the limits. All that the check accepts must be small once llama.cpp has parsed it, by
// counts of rules and elements. A child does the work, with little memory, so that a fault ends the child and not the
// machine. Prints one line per failure; exit code 1 on a failure.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "llama-grammar.h"
#include "llama/grammar_bounds.h"
#include "llama/grammar_check.h"
#include "llama/json_schema.h"
#include "llama/pattern_bounds.h"

namespace {

constexpr rlim_t kMemory = rlim_t{1} << 30;  // bytes, of the whole child
constexpr rlim_t kSeconds = 300;             // of CPU time: only a fault comes near
constexpr rlim_t kStack = rlim_t{2} << 20;   // bytes: half of what a worker thread of Node has
constexpr uint64_t kLimit = cllm::kMostRepetitions;
constexpr int64_t kLargestInteger = std::numeric_limits<int64_t>::max();

int failures = 0;

void check(bool ok, const std::string& what) {
  if (ok) return;
  failures++;
  std::printf("FAILED %s\n", what.c_str());
}

std::mt19937_64 generator(1);
uint64_t below(uint64_t count) { return generator() % count; }

/// Small numbers most often, those around the limits and around powers of two at times.
uint64_t some_number() {
  static const std::vector<uint64_t> edges = {kLimit - 1, kLimit,         kLimit + 1, 4095,
                                              4096,       1ull << 31,     1ull << 32, (1ull << 63) - 1,
                                              1ull << 63, UINT64_MAX - 1, UINT64_MAX};
  switch (below(8)) {
    case 0: return edges[below(edges.size())];
    case 1: return below(2 * kLimit);
    case 2: return generator() >> below(64);
    default: return below(6);
  }
}

// --- numbers alone
// -----------------------------------------------------------------------------------------------------

void test_repetitions() {
  const std::vector<uint64_t> numbers = {0, 1, 2, kLimit - 1, kLimit, kLimit + 1, 1u << 31, 1ull << 63, UINT64_MAX - 1};
  for (const uint64_t least : numbers) {
    check(cllm::why_repetition_refused(least, cllm::kNoMaximum).empty() == (least <= kLimit), "a minimum alone");
    for (const uint64_t most : numbers) {
      const bool fits = least <= most && most <= kLimit;
      check(cllm::why_repetition_refused(least, most).empty() == fits,
            "{" + std::to_string(least) + "," + std::to_string(most) + "}");
    }
  }
  const std::vector<std::string> too_large = {"2001", "9223372036854775808", "18446744073709551616",
                                              std::string(10'000, '9')};
  for (const std::string& digits : too_large) {
    for (const std::string& count : {"{" + digits + "}", "{0," + digits + "}", "{ " + digits + " , }"}) {
      check(cllm::why_bounds_refused("root ::= \"a\"" + count).find("counts more than 2000") != std::string::npos,
            "a count of " + std::to_string(digits.size()) + " digits");
      check(cllm::why_bounds_refused("root ::= \"" + count + "\" [" + count + "] # " + count).empty(),
            "a count in a literal, a class or a comment");
    }
    check(!cllm::why_pattern_refused("^a{" + digits + "}$").empty(), "a count in a pattern");
    if (digits.size() > 100) continue;
    check(cllm::why_pattern_refused("^[{" + digits + "}]\\{" + digits + "$").empty(), "a count in a pattern's class");
  }
  for (const char* pattern : {"^a{0,2000}$", "^a{2}b{2,}c{2,3}$", "^a{b}$", "a{", "^\\d{4}-\\d{2}$"}) {
    check(cllm::why_pattern_refused(pattern).empty(), pattern);
  }
}

void test_grammar_sizes() {
  const auto reason = [](const std::string& grammar) { return cllm::why_bounds_refused(grammar); };
  const auto repeated = [](const std::string& text, int count) {
    std::string all;
    while (count-- > 0) all += text;
    return all;
  };
  check(reason("root ::= [a-z]{0,100} (\"ab\" | x){2,2000} x+\nx ::= . {2000}").empty(), "what is in use");
  check(reason("root ::= " + repeated("x{0,2000} ", 3)).find("4096 rules") != std::string::npos, "rules add up");
  check(reason("root ::= \"" + repeated("a", 1000) + "\"{0,2000}").find("elements") != std::string::npos,
        "elements are multiplied");
  check(reason(repeated("r", 10'000) + " ::= x{0,2000}").find("names") != std::string::npos, "names are repeated");
  check(reason("root ::= x" + repeated("+", 4000)).find("elements") != std::string::npos, "operators in a row");
  check(reason("root ::= " + repeated("(", 100'000)).find("500 deep") != std::string::npos, "brackets");
  check(reason("root ::= <(((\"> <#> " + repeated("(", 501)).find("500 deep") != std::string::npos, "a token's text");
  check(reason("root ::= <[2147483648]>").find("number of a token") != std::string::npos, "a token's number");
}

// --- random grammars
// ---------------------------------------------------------------------------------------------------

std::string some_count() {
  const std::string least = std::to_string(some_number());
  switch (below(8)) {
    case 0: return "*";
    case 1: return "+";
    case 2: return "?";
    case 3: return "{" + least + "}";
    case 4: return "{" + least + ",}";
    default: return "{" + least + " , " + std::to_string(some_number()) + "}";
  }
}

std::string rule_name(uint64_t rule) { return std::string("r").append(std::to_string(rule)); }

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

struct Parsed {
  bool whole = false;
  size_t rules = 0, named = 0, elements = 0;
  llama_grammar_rules all;
};

Parsed parse(const std::string& grammar) {
  llama_grammar_parser parser(nullptr);
  Parsed parsed;
  try {
    for (const char* at = cllm::skip_grammar_space(grammar.c_str()); *at != '\0';) at = parser.parse_rule(at);
    parsed.whole = true;
  } catch (const std::exception&) {
  }
  parsed.rules = parser.rules.size();
  for (const auto& [name, id] : parser.symbol_ids) parsed.named += name.find('_') == std::string::npos ? 1 : 0;
  for (const auto& rule : parser.rules) parsed.elements += rule.size();
  parsed.all = std::move(parser.rules);
  return parsed;
}

/// The rules of grammar_check.h as plainly as they can be written: does a rule come back to itself at its beginning?
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
    const bool left = reason.find("left recursion") != std::string::npos;
    if ((left || reason.empty()) && parsed.rules < 100) {
      check(left == (comes_back(parsed.all, false) || comes_back(parsed.all, true)), "left recursion:\n" + grammar);
      recursive += left ? 1 : 0;
    }
    if (!reason.empty() || parsed.rules > 200) continue;
    llama_grammar* made = llama_grammar_init_impl(nullptr, grammar.c_str(), "root", false, nullptr, 0, nullptr, 0);
    check(made != nullptr, "llama.cpp takes\n" + grammar);
    if (made != nullptr) llama_grammar_free_impl(made);
    initialised++;
  }
  check(accepted > 2000 && initialised > 500 && recursive > 100,
        "of 20,000 random grammars " + std::to_string(accepted) + ", " + std::to_string(initialised) + " and " +
            std::to_string(recursive) + " are of use");
}

/// Rules that begin with one another, as many as there may be: the check's own time and stack.
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

// --- JSON schemas
// ------------------------------------------------------------------------------------------------------

/// The grammar, or "Error: " and why there is none.
std::string grammar_of(const std::string& schema) {
  try {
    return cllm::grammar_of_json_schema(schema);
  } catch (const cllm::Error& error) {
    check(error.code() == "CLLM_INVALID_GRAMMAR", "the code for " + schema);
    return std::string("Error: ") + error.what();
  }
}

bool is_refused(const std::string& schema, const std::string& why) {
  const std::string grammar = grammar_of(schema);
  if (grammar.compare(0, 7, "Error: ") == 0 && grammar.find(why) != std::string::npos) return true;
  std::printf("%s instead of %s\n", grammar.substr(0, 200).c_str(), why.c_str());
  return false;
}

bool is_accepted(const std::string& schema) {
  const std::string grammar = grammar_of(schema);
  if (grammar.compare(0, 7, "Error: ") == 0) std::printf("%s\n", grammar.c_str());
  return grammar.compare(0, 7, "Error: ") != 0 && cllm::why_no_grammar(nullptr, grammar).empty();
}

void test_schema_numbers() {
  const std::string path = " for #/properties/a~1b/";
  for (const std::string keyword : {"minLength", "maxLength", "minItems", "maxItems"}) {
    const bool length = keyword.find("Length") != std::string::npos;
    const std::string type = length ? "string" : "array", range = length ? "0 to 2000" : "0 to 1990";
    for (const std::string value : {"2001", "-1", "1.5", "2147483648", "4294967296", "9223372036854775808",
                                    "18446744073709551615", "1e18", "\"5\"", "null", "[]"}) {
      const std::string schema =
          R"({"properties":{"a/b":{"type":")" + type + R"(",")" + keyword + "\":" + value + "}}}";
      check(is_refused(schema,
                       "Expected an integer from " + range + path + keyword + " of the JSON schema but received "),
            keyword + " " + value);
    }
  }
  for (const std::string keyword : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}) {
    for (const std::string value : {"\"5\"", "null", "{}"}) {
      check(
          is_refused("{\"type\":\"integer\",\"" + keyword + "\":" + value + "}",
                     "Expected a number for #/" + keyword + " of the JSON schema but received " + value + " of type "),
          keyword + " " + value);
    }
    check(is_refused("{\"type\":\"integer\",\"" + keyword + "\":1e400}", "number"), keyword + " of a huge exponent");
  }
  check(is_refused(R"({"type":"integer","minimum":1e19})", "for #/minimum"), "an integer that 64 bits do not hold");
  check(is_refused(R"({"type":"integer","exclusiveMaximum":-1e19})", "for #/exclusiveMaximum"), "the same below");
  check(is_refused(R"({"type":"integer","minimum":0.2,"maximum":0.8})", "for #/maximum"), "no integer between");
  check(is_refused(R"({"type":["null","integer"],"minimum":1,"exclusiveMaximum":1})", "for #/exclusiveMaximum"),
        "none");
  check(is_refused(R"({"type":"number","minimum":2.5,"maximum":2})", "for #/maximum"), "numbers in reverse");
  check(is_refused(R"({"type":"object","minProperties":-1})", "for #/minProperties"), "minProperties");
  check(is_refused(R"({"minContains":2,"maxContains":1})", "for #/maxContains"), "maxContains");
  check(is_refused(R"({"$defs":{"a":{"maxItems":-1}},"$ref":"#/$defs/a"})", "for #/$defs/a/maxItems"), "behind a $ref");
  check(is_refused(R"({"type":"string","pattern":"^a{2001}$"})", "for #/pattern"), "a pattern");
  check(is_refused(R"({"type":"string","pattern":"^a{+5}$"})", "{m}, {m,} or {m,n} for #/pattern"), "a pattern's sign");
  for (const char* schema : {
           R"({"type":"string","maxLength":1000})",
           R"({"type":"string","minLength":2000})",
           R"({"type":"string","pattern":"^[a-z]{0,100}(-[a-z]+){2,}$"})",
           R"({"type":"array","items":{"type":"string"},"maxItems":500})",
           R"({"type":"array","items":{"type":"string"},"maxItems":1990})",
           R"({"type":"array","items":{"type":"array","items":{"type":"integer"},"maxItems":10},"maxItems":10})",
           R"({"type":"integer","minimum":-9007199254740991,"maximum":9007199254740991})",
           R"({"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807})",
           R"({"type":"integer","minimum":-9223372036854776000,"maximum":9223372036854776000})",
           R"({"type":"integer","minimum":0,"exclusiveMinimum":true})",
           R"({"type":"integer","exclusiveMinimum":0,"maximum":1e300})",
           R"({"type":"number","minimum":-1e300,"maximum":0.5})",
           R"({"type":"object","properties":{"minimum":{"type":"string"},"maxItems":{"enum":[{"maxItems":-1}]}}})",
       }) {
    check(is_accepted(schema), schema);
  }
}

void test_schema_sizes() {
  const auto list = [](int count, const std::function<std::string(int)>& item) {
    std::string text;
    for (int i = 0; i < count; i++) text += (i > 0 ? "," : "") + item(i);
    return text;
  };
  const auto nested = [](int count, const std::string& open, const std::string& inner, const std::string& close) {
    std::string text;
    for (int i = 0; i < count; i++) text += open;
    text += inner;
    for (int i = 0; i < count; i++) text += close;
    return text;
  };
  const auto optional = [&](int count) {
    return R"({"properties":{)" + list(count, [](int i) { return "\"p" + std::to_string(i) + "\":{}"; }) + "}}";
  };
  check(is_accepted(optional(300)), "300 optional properties");
  check(is_refused(optional(401), "at most 400 optional properties"), "401 optional properties");
  check(is_refused(optional(4097), "at most 4096 members"), "4097 properties");
  // Each leads to the next one, from within a property or at once.
  const auto references = [&](int count, const std::string& open, const std::string& close) {
    return R"({"$ref":"#/$defs/d0","$defs":{)" +
           list(count,
                [&](int i) {
                  const std::string next = i + 1 < count ? "\"$ref\":\"#/$defs/d" + std::to_string(i + 1) + "\"" : "";
                  return "\"d" + std::to_string(i) + "\":{" + open + next + close + "}";
                }) +
           "}}";
  };
  check(is_accepted(references(450, R"("properties":{"a":{)", "}}")), "450 references");
  check(is_accepted(references(950, "", "")), "950 references to references");
  check(is_accepted(references(300, R"("type":"array","items":{)", "}")), "300 references to arrays");
  check(is_refused(references(1500, "", ""), "levels, with what each $ref leads to"), "1500 references");
  check(is_refused(nested(30, R"({"type":["object","object"],"properties":{"a":)", "{}", "}}"),
                   "at most 4096 properties"),
        "lists of types within each other");
  check(is_refused(R"({"pattern":")" + std::string(10'001, 'a') + "\"}", "at most 10000 bytes for #/pattern"),
        "a pattern");
  check(is_accepted(R"({"properties":{")" + std::string(1024, '_') + R"(":{}}})"), "a name of 1024 bytes");
  check(is_refused(R"({"properties":{")" + std::string(1025, 'a') + R"(":{}}})", "at most 1024 bytes"), "a name");
  check(is_refused(nested(201, R"({"not":)", "{}", "}"), "at most 200 levels"), "levels of the text");
  check(is_accepted(nested(90, R"({"properties":{"a":)", "{}", "}}")), "90 levels of objects");
  check(is_refused(
            R"({"properties":{)" +
                list(5, [](int i) { return "\"a" + std::to_string(i) + R"(":{"type":"string","maxLength":1000})"; }) +
                "}}",
            "more than 4096 rules"),
        "lengths add up");
}

std::string some_schema(int depth) {
  const auto number = [] {
    const std::string sign = below(4) == 0 ? "-" : "";
    const std::string end = below(6) == 0 ? ".5" : below(10) == 0 ? "e" + std::to_string(below(25)) : "";
    return sign + std::to_string(below(3) == 0 ? some_number() : generator() >> below(64)) + end;
  };
  const auto count = [&] {
    return below(8) == 0 ? number() : std::to_string(below(3) == 0 ? some_number() : below(40));
  };
  const auto pair = [](const std::string& least, const std::string& most, const std::function<std::string()>& value) {
    std::string text;
    if (below(3) != 0) text += ",\"" + least + "\":" + value();
    if (below(3) != 0) text += ",\"" + most + "\":" + value();
    return text;
  };
  const auto inner = [&] { return depth > 0 ? some_schema(depth - 1) : std::string("{}"); };
  const std::string reference = "\"$ref\":\"#/$defs/" + std::string(1, static_cast<char>('a' + below(3))) + "\"";
  switch (below(10)) {
    case 0: return R"({"type":"string")" + pair("minLength", "maxLength", count) + "}";
    case 1: return R"({"type":"array","items":)" + inner() + pair("minItems", "maxItems", count) + "}";
    case 2: return R"({"type":"integer")" + pair("minimum", "maximum", number) + "}";
    case 3: return R"({"type":["integer","null"])" + pair("exclusiveMinimum", "exclusiveMaximum", number) + "}";
    case 4: return R"({"type":"string","pattern":"^(a|[b-d]{)" + count() + "}){" + count() + "," + count() + "}$\"}";
    case 5: return R"({"type":"object","properties":{"a":)" + inner() + ",\"b\":" + inner() + R"(},"required":["b"]})";
    case 6: return R"({"anyOf":[)" + inner() + "," + inner() + "]}";
    case 7: return R"({"allOf":[{)" + reference + "}," + inner() + "]}";
    case 8: return "{" + reference + "}";
    default: return R"({"type":["object","array"],"additionalProperties":)" + inner() + R"(,"items":)" + inner() + "}";
  }
}

void test_random_schemas() {
  int converted = 0, accepted = 0;
  for (int i = 0; i < 10'000; i++) {
    std::string schema = some_schema(3);
    schema.pop_back();
    schema += R"(,"$defs":{"a":)" + some_schema(2) + R"(,"b":)" + some_schema(1) + R"(,"c":{"type":"null"}}})";
    const std::string grammar = grammar_of(schema);
    if (grammar.compare(0, 7, "Error: ") == 0) continue;
    converted++;
    cllm::GrammarSize size;
    check(cllm::why_bounds_refused(grammar, &size).empty(), "bounds of the grammar of\n" + schema);
    const Parsed parsed = parse(grammar);
    check(parsed.elements <= size.elements, "elements of\n" + schema);
    check(parsed.rules <= size.generated_rules + parsed.named, "rules of\n" + schema);
    accepted += cllm::why_no_grammar(nullptr, grammar).empty() ? 1 : 0;
  }
  check(converted > 1000 && accepted > 1000,
        "of 10,000 random schemas " + std::to_string(converted) + " and " + std::to_string(accepted) + " are of use");
}

/// A grammar to ask more than once.
class Matcher {
 public:
  explicit Matcher(const std::string& grammar)
      : grammar_(llama_grammar_init_impl(nullptr, grammar.c_str(), "root", false, nullptr, 0, nullptr, 0)) {
    if (grammar_ != nullptr) start_ = llama_grammar_get_stacks(grammar_);
  }
  ~Matcher() {
    if (grammar_ != nullptr) llama_grammar_free_impl(grammar_);
  }
  Matcher(const Matcher&) = delete;

  bool matches(const std::string& text) const {
    if (grammar_ == nullptr) return false;
    auto& stacks = llama_grammar_get_stacks(grammar_);
    stacks = start_;
    for (const char c : text) llama_grammar_accept(grammar_, static_cast<unsigned char>(c));
    return std::any_of(stacks.begin(), stacks.end(), [](const auto& stack) { return stack.empty(); });
  }

 private:
  llama_grammar* grammar_;
  llama_grammar_stacks start_;
};

/// Integers in and beside their bounds. Those without a bound have at most 16 digits in llama.cpp's grammars.
void test_integer_bounds() {
  for (int i = 0; i < 2000; i++) {
    const auto some_integer = [] {
      const auto magnitude = static_cast<int64_t>((generator() >> 1) >> below(63));
      return below(2) == 0 ? magnitude : -magnitude;
    };
    int64_t low = some_integer(), high = some_integer();
    if (below(4) == 0) low = static_cast<int64_t>(std::stoll("1" + std::string(below(19), '0')));
    if (low > high) std::swap(low, high);
    const bool has_low = below(3) != 0, has_high = below(3) != 0;
    std::string schema = R"({"type":"integer")";
    if (has_low) schema += ",\"minimum\":" + std::to_string(low);
    if (has_high) schema += ",\"maximum\":" + std::to_string(high);
    schema += "}";
    const std::string grammar = grammar_of(schema);
    check(grammar.compare(0, 7, "Error: ") != 0, schema + ": " + grammar);
    const Matcher matcher(grammar);
    std::vector<int64_t> values = {some_integer(), some_integer(), 0, 1, -1};
    for (const int64_t bound : {low, high}) {
      for (const int64_t step : {-10, -1, 0, 1, 10}) {
        if (std::abs(bound) < kLargestInteger - 20) values.push_back(bound + step);
      }
      values.push_back(bound / 10);
      values.push_back(bound / 2);
    }
    for (const int64_t value : values) {
      const bool expected = (!has_low || value >= low) && (!has_high || value <= high);
      const std::string text = std::to_string(value);
      if (expected && text.size() > 15 && !(has_low && has_high)) continue;
      check(matcher.matches(text) == expected, schema + ": " + text);
    }
    check(!matcher.matches("007") && !matcher.matches("-07"), schema + ": leading zeros");
  }
}

int run_all() {
  const rlimit memory{kMemory, kMemory}, seconds{kSeconds, kSeconds};
  setrlimit(RLIMIT_AS, &memory);
  setrlimit(RLIMIT_CPU, &seconds);
  const std::pair<const char*, void (*)()> tests[] = {
      {"repetitions", test_repetitions},         {"grammar sizes", test_grammar_sizes},
      {"random grammars", test_random_grammars}, {"long chains", test_long_chains},
      {"schema numbers", test_schema_numbers},   {"schema sizes", test_schema_sizes},
      {"random schemas", test_random_schemas},   {"integer bounds", test_integer_bounds},
  };
  for (const auto& [name, test] : tests) {
    const int before = failures;
    try {
      test();
    } catch (const std::exception& error) {
      check(false, std::string(name) + " ends with " + error.what());
    }
    std::printf("%s %s\n", failures == before ? "ok" : "FAILED", name);
    std::fflush(stdout);
  }
  return failures > 0 ? 1 : 0;
}

}  // namespace

int main(int, char** argv) {
  // The main thread's stack has its size from the start of the program.
  rlimit stack{};
  getrlimit(RLIMIT_STACK, &stack);
  if (stack.rlim_cur != kStack) {
    stack.rlim_cur = kStack;
    setrlimit(RLIMIT_STACK, &stack);
    execv("/proc/self/exe", argv);
  }
  const pid_t child = fork();
  if (child == 0) _exit(run_all());
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) std::printf("FAILED: the child ended with signal %d\n", WTERMSIG(status));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
