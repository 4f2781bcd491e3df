#pragma once

#include <string>

namespace cllm {

/// A JSON schema as a grammar in GBNF, by llama.cpp's own converter. Throws Error CLLM_INVALID_GRAMMAR for text that is
/// no schema, or one with what the converter does not know.
std::string grammar_of_json_schema(const std::string& schema);

}  // namespace cllm
