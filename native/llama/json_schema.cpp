#include "llama/json_schema.h"

#include <algorithm>
#include <exception>
#include <string>
#include <vector>

#include "base/error.h"
#include "common.h"
#include "json-schema-to-grammar.h"

// All that the converter needs of llama.cpp's common.cpp, which would bring arguments, downloads and chat with it.

std::string string_join(const std::vector<std::string>& values, const std::string& separator) {
  std::string joined;
  for (const std::string& value : values) joined += (&value == values.data() ? "" : separator) + value;
  return joined;
}

std::vector<std::string> string_split(const std::string& text, const std::string& delimiter) {
  std::vector<std::string> parts;
  size_t from = 0;
  for (size_t to = text.find(delimiter); to != std::string::npos; to = text.find(delimiter, from)) {
    parts.push_back(text.substr(from, to - from));
    from = to + delimiter.size();
  }
  parts.push_back(text.substr(from));
  return parts;
}

std::string string_repeat(const std::string& text, size_t count) {
  std::string repeated;
  while (count-- > 0) repeated += text;
  return repeated;
}

namespace cllm {

namespace {

constexpr int kDeepest = 200;  // levels of a schema: the converter calls itself for each

int deepest_level(const std::string& json) {
  int depth = 0, deepest = 0;
  bool in_text = false;
  for (size_t i = 0; i < json.size(); i++) {
    if (in_text && json[i] == '\\') {
      i++;
    } else if (json[i] == '"') {
      in_text = !in_text;
    } else if (!in_text) {
      depth += (json[i] == '{' || json[i] == '[') - (json[i] == '}' || json[i] == ']');
      deepest = std::max(deepest, depth);
    }
  }
  return deepest;
}

}  // namespace

std::string grammar_of_json_schema(const std::string& schema) {
  if (deepest_level(schema) > kDeepest) {
    throw Error("CLLM_INVALID_GRAMMAR", "Expected a JSON schema of at most " + std::to_string(kDeepest) + " levels");
  }
  try {
    return json_schema_to_grammar(common_json::parse(schema), true);
  } catch (const std::exception& error) {
    std::string reason = error.what();
    while (!reason.empty() && reason.back() == '\n') reason.pop_back();
    throw Error("CLLM_INVALID_GRAMMAR", "Expected a JSON schema that llama.cpp knows how to follow: " + reason);
  }
}

}  // namespace cllm
