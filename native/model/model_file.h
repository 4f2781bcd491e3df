#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "base/ggml_pointers.h"

namespace cllm {

struct ModelFileError {
  std::string code;  // of lib/errors.ts
  std::string message;
};

/// Checks a GGUF file before llama.cpp reads it: no code of ours trusts a model file. Returns nullopt where llama.cpp
/// may load it. `types`, if not null, then holds the ggml_type of every tensor, of all parts of a split model.
std::optional<ModelFileError> check_model_file(const std::string& path, std::set<uint32_t>* types = nullptr);

/// Opens a GGUF file of any content whose header and tensors are right by themselves, for ggml's reader.
/// Throws Error CLLM_MODEL_NOT_FOUND, CLLM_INVALID_MODEL.
GgufPointer open_gguf(const std::string& path);

}  // namespace cllm
