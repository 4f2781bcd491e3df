#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace cllm::fuzz {

/// A GGUF taken apart, so that a mutant can be wrong in one place and right in all others. The reader refuses nearly
/// every file with randomly flipped bytes; these mutants get through to the code behind it.
struct Gguf {
  struct Key {
    std::string name;
    uint32_t type;                    // gguf_type
    uint32_t element;                 // type of an array's elements
    std::vector<std::string> values;  // encoded, strings without their length; a scalar has one
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

/// Makes one to three edits of structure: values, types and lengths of keys; keys added, removed, renamed; tensors with
/// another type, shape or name, or removed; another architecture or tokenizer. `what` gets a description of each.
void mutate_structure(Gguf& gguf, std::mt19937_64& random, std::string& what);

}  // namespace cllm::fuzz
