#pragma once

#include <cstddef>
#include <cstdint>
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

/// Throws std::runtime_error where the bytes end too early.
Gguf parse_gguf(const std::string& bytes);
std::string encode_gguf(const Gguf& gguf);

/// Bytes of a scalar of this gguf_type.
size_t size_of(uint32_t type);
/// Bytes of data that the tensor's type and shape need.
size_t bytes_of(const Gguf::Tensor& tensor);

template <typename T>
std::string encode(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(T));
}

}  // namespace cllm::fuzz
