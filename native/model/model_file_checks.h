#pragma once

// The checks of check_model_file(). Each checks one part of the file, and runs after the checks that it relies on.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/model_file.h"

struct gguf_context;

namespace cllm {

using Problem = std::optional<ModelFileError>;

/// CLLM_INVALID_MODEL with the message "Expected a GGUF file but PATH WHAT".
Problem invalid(const std::string& path, const std::string& what);

struct TensorEntry {
  std::string name;
  std::vector<uint64_t> shape;  // the first dimension is contiguous
  uint64_t elements;
  uint32_t type;  // a ggml_type if the file is right
};

/// Reads the file's header with a reader of its own. It compares every count and length with the rest of the file, and
/// with what a model can need, before it allocates anything of that size. After this check ggml's reader is safe and
/// quick.
Problem check_header(const std::string& path, std::vector<TensorEntry>& tensors);

/// Whether ggml's CPU operators read the tensor of this name in F32 alone: vectors and convolutions do, matrices do
/// not.
bool must_be_f32(std::string_view name);

/// Whether all tensors lie within the file and have types that the CPU backend can compute with.
Problem check_tensors(const std::string& path, const gguf_context* gguf, const std::vector<TensorEntry>& tensors);

/// Checks sizes of the architecture (block count, heads, experts, ...) that llama.cpp computes with unchecked.
Problem check_hparams(const std::string& path, const gguf_context* gguf, const std::string& architecture);

/// Checks the tokenizer's arrays.
Problem check_vocabulary(const std::string& path, const gguf_context* gguf);

/// The value of a key of any integer type, or `fallback` where there is no such key or it is an array.
int64_t integer_key(const gguf_context* gguf, const std::string& key, int64_t fallback);

}  // namespace cllm
