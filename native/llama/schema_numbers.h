#pragma once

#include <string>

class common_json;
struct common_chat_schema_document;

namespace cllm {

/// Checks the keywords of one schema that are numbers, those of the schemas in it excepted. Throws Error
/// CLLM_INVALID_GRAMMAR. Bounds of integers that 64 bits do not hold are replaced by the nearest that they do; where
/// both are given, exclusive ones are folded into the others. No key is added.
void check_schema_numbers(common_json& schema, const std::string& path);

/// Gives integers with one bound the other one where the converter's one-sided form is wrong: with two digits or more
/// it allows smaller numbers, and in front of negative ones it allows zeros.
void complete_integer_bounds(common_chat_schema_document& document);

/// Throws Error CLLM_INVALID_GRAMMAR: "Expected <what> for <path> of the JSON schema but received <value> of type
/// <type>".
[[noreturn]] void refuse_value(const std::string& what, std::string path, const common_json& value);

}  // namespace cllm
