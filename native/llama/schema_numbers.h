#pragma once

#include <string>

class common_json;
struct common_chat_schema_document;

namespace cllm {

/// Checks the numeric keywords of one schema, but not those of the schemas inside it. Throws Error
/// CLLM_INVALID_GRAMMAR. Integer bounds that do not fit into 64 bits are replaced by the nearest that do. An exclusive
/// bound is folded into the inclusive one where both are given. No key is added.
void check_schema_numbers(common_json& schema, const std::string& path);

/// Gives integers that have one bound the other one, where the converter's one-sided form is wrong: above a minimum of
/// two digits or more it allows smaller numbers, and below a negative maximum it allows leading zeros.
void complete_integer_bounds(common_chat_schema_document& document);

/// Throws Error CLLM_INVALID_GRAMMAR: "Expected <what> for <path> of the JSON schema but received <value> of type
/// <type>".
[[noreturn]] void refuse_value(const std::string& what, std::string path, const common_json& value);

}  // namespace cllm
