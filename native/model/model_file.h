#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

namespace cllm {

struct ModelFileError {
  std::string code;  // of lib/errors.ts
  std::string message;
};

/// Checks a GGUF file before llama.cpp reads it: no code of ours trusts a model file. Returns nullopt where llama.cpp
/// may load it. `types`, if not null, then holds the ggml_type of every tensor, of all parts of a split model.
std::optional<ModelFileError> check_model_file(const std::string& path, std::set<uint32_t>* types = nullptr);

}  // namespace cllm
