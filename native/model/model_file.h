#pragma once

#include <optional>
#include <string>

namespace cllm {

struct ModelFileError {
  std::string code;  // of lib/errors.ts
  std::string message;
};

/// Checks a GGUF file before llama.cpp reads it: no code of ours trusts a model file. Returns nullopt
/// where llama.cpp may load it.
std::optional<ModelFileError> check_model_file(const std::string& path);

}  // namespace cllm
