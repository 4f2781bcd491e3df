#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace cllm::fuzz {

/// A GGUF taken apart, so that a mutant can be wrong in one place and right in all others: bytes flipped at random are
/// nearly always refused by the reader, these get through to the code behind it.
struct Gguf {
  struct Key {
    std::string name;
    uint32_t type;                    // gguf_type
    uint32_t element;                 // of an array
    std::vector<std::string> values;  // encoded, without a string's length; one for a scalar
  };
  struct Tensor {
    std::string name;
    std::vector<uint64_t> shape;
    uint32_t type;  // ggml_type
    std::string data;
  };
  std::vector<Key> keys;
  std::vector<Tensor> tensors;
};

Gguf parse_gguf(const std::string& bytes);
std::string encode_gguf(const Gguf& gguf);

/// One to three edits of structure: values, types and lengths of keys; keys added, taken away, renamed; tensors
/// retyped, reshaped, renamed, taken away; another architecture or tokenizer. `what` gets a description of each.
void mutate_structure(Gguf& gguf, std::mt19937_64& random, std::string& what);

}  // namespace cllm::fuzz
