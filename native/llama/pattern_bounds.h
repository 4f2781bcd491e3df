#pragma once

#include <string>

namespace cllm {

/// What a `pattern` of a JSON schema should be instead, in the words of an error message, or an empty string.
/// llama.cpp's converter reads counted repetitions with std::stoi, and writes them into the grammar without comparing
/// them.
std::string why_pattern_refused(const std::string& pattern);

}  // namespace cllm
