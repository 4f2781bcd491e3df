#pragma once

#include <optional>
#include <string>

namespace cllm {

struct ModelFileError {
  std::string code;  // of lib/errors.ts
  std::string message;
};

/// Looks at a GGUF file before llama.cpp does: nothing we ship trusts a model file. nullopt: llama.cpp may load it.
std::optional<ModelFileError> check_model_file(const std::string& path);

}  // namespace cllm
