#include "llama/json_schema.h"

#include <exception>
#include <string>
#include <vector>

#include "base/error.h"
#include "common.h"
#include "json-schema-to-grammar.h"
#include "llama/grammar_bounds.h"
#include "llama/schema_bounds.h"
#include "llama/schema_numbers.h"

// The converter needs only these functions of llama.cpp's common.cpp, which would bring arguments, downloads and chat
// with it.

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

std::string grammar_of_json_schema(const std::string& schema) {
  check_schema_text(schema);
  try {
    common_json json = common_json::parse(schema);
    check_schema_bounds(json);
    common_chat_schema_document document = common_chat_schema_from_json(json);
    complete_integer_bounds(document);
    std::string grammar = json_schema_to_grammar(document);
    const std::string reason = why_bounds_refused(grammar);
    if (reason.empty()) return grammar;
    throw Error("CLLM_INVALID_GRAMMAR", "Expected a JSON schema with a smaller grammar: " + reason);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    std::string reason = error.what();
    while (!reason.empty() && reason.back() == '\n') reason.pop_back();
    throw Error("CLLM_INVALID_GRAMMAR", "Expected a JSON schema that llama.cpp knows how to follow: " + reason);
  }
}

}  // namespace cllm
