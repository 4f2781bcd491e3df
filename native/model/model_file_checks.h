#pragma once

// What check_model_file is made of. Each check knows one part of the file, and comes after those it relies on.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/model_file.h"

struct gguf_context;

namespace cllm {

using Problem = std::optional<ModelFileError>;

/// "Expected a GGUF file but PATH WHAT", CLLM_INVALID_MODEL.
Problem invalid(const std::string& path, const std::string& what);

struct TensorEntry {
  std::string name;
  std::vector<uint64_t> shape;  // the first is the contiguous one
  uint64_t elements;
  uint32_t type;  // a ggml_type, not yet known to be one
};

/// Reads the file's header by itself: every count and length is compared with what is left of the file, and with what a
/// model can need, before anything of that size is allocated. After it, ggml's own reader is safe and quick.
Problem check_header(const std::string& path, std::vector<TensorEntry>& tensors);

/// Data within the file, and of types that the CPU backend can compute with.
Problem check_tensors(const std::string& path, const gguf_context* gguf, const std::vector<TensorEntry>& tensors);

/// Sizes of the architecture (block count, heads, experts, ...) that llama.cpp computes with unchecked.
Problem check_hparams(const std::string& path, const gguf_context* gguf, const std::string& architecture);

/// The tokenizer's arrays.
Problem check_vocabulary(const std::string& path, const gguf_context* gguf);

/// An integer key of any integer type, or `fallback` when there is none or it is an array.
int64_t integer_key(const gguf_context* gguf, const std::string& key, int64_t fallback);

}  // namespace cllm
