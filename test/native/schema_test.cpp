// Bounds of JSON schemas: their numbers, their sizes, random schemas, and integers in the grammars that are made of
// them.

#include <algorithm>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "grammar_test.h"
#include "llama/grammar_check.h"
#include "llama/json_schema.h"

namespace {

constexpr int64_t kMaxInteger = std::numeric_limits<int64_t>::max();

/// The grammar of a schema, or "Error: " and the reason why there is none.
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

}  // namespace

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
  // Each definition refers to the next one, from within a property or directly.
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

namespace {

std::string some_schema(int depth) {
  const auto number = [] {
    const std::string sign = below(4) == 0 ? "-" : "";
    const std::string end = below(6) == 0 ? ".5" : below(10) == 0 ? "e" + std::to_string(below(25)) : "";
    return sign + std::to_string(below(3) == 0 ? some_number() : generator() >> below(64)) + end;
  };
  const auto count = [&] {
    return below(8) == 0 ? number() : std::to_string(below(3) == 0 ? some_number() : below(40));
  };
  const auto pair = [](const std::string& minimum, const std::string& maximum,
                       const std::function<std::string()>& value) {
    std::string text;
    if (below(3) != 0) text += ",\"" + minimum + "\":" + value();
    if (below(3) != 0) text += ",\"" + maximum + "\":" + value();
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

}  // namespace

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

namespace {

/// A grammar that can be asked about several texts.
class Matcher {
 public:
  explicit Matcher(const std::string& grammar) : grammar_(initialise(grammar)) {
    if (grammar_) start_ = llama_grammar_get_stacks(grammar_.get());
  }

  bool matches(const std::string& text) const {
    if (!grammar_) return false;
    auto& stacks = llama_grammar_get_stacks(grammar_.get());
    stacks = start_;
    for (const char c : text) llama_grammar_accept(grammar_.get(), static_cast<unsigned char>(c));
    return std::any_of(stacks.begin(), stacks.end(), [](const auto& stack) { return stack.empty(); });
  }

 private:
  GrammarPointer grammar_;
  llama_grammar_stacks start_;
};

}  // namespace

/// Tests integers inside and outside their bounds. Without a bound, llama.cpp's grammars allow at most 16 digits.
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
        if (std::abs(bound) < kMaxInteger - 20) values.push_back(bound + step);
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
