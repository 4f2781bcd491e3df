#pragma once

#include <string>

class common_json;

namespace cllm {

/// Checks levels and members of the text, before it is parsed. Throws Error CLLM_INVALID_GRAMMAR, as the next
/// function does.
void check_schema_text(const std::string& text);

/// Checks the numbers of a JSON schema (schema_numbers.h) and the size of what llama.cpp's converter would make of it,
/// before the converter sees it: the converter writes bounds into repetitions without comparing them, computes in 64
/// bits that wrap, and calls itself for every level. The check visits what the converter visits, within limits.
void check_schema_bounds(common_json& schema);

}  // namespace cllm
