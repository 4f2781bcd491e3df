#pragma once

#include <cstdint>

namespace cllm {

namespace {

/// How the rounded columns of a WordSum lie where a product takes bytes as they are (vector_*.h).
template <typename Vector>
struct ByteColumns {
  static constexpr bool kCorrectedFirst = false;
  static constexpr int64_t kColumnBytes = 32;  // of a block
  template <int I>
  static typename Vector::Ints load(const char* block) {
    return Vector::set_words(reinterpret_cast<const int32_t*>(block)[I]);
  }
  static void store(const int8_t* bytes, int8_t* block) { __builtin_memcpy(block, bytes, kColumnBytes); }
};

}  // namespace

}  // namespace cllm
