#pragma once

#include <string>

namespace cllm {

/// Converts a JSON schema to a grammar in GBNF with llama.cpp's converter. Throws Error CLLM_INVALID_GRAMMAR for text
/// that is no schema, for what the converter does not know, and for bounds and sizes that schema_bounds.h refuses.
std::string grammar_of_json_schema(const std::string& schema);

}  // namespace cllm
