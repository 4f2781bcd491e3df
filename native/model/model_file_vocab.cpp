#include <cstring>

#include "gguf.h"
#include "model/model_file_checks.h"

namespace cllm {

namespace {

// llama.cpp repeats a whole byte-level BPE token for every character in it that is not of the byte alphabet: a token of
// 100 KB becomes 4 GB. The longest token in published vocabularies has about 1000 bytes.
constexpr uint64_t kMaxTokenBytes = 1 << 14;
constexpr uint64_t kMaxSquares = 1u << 29;  // sum of squared lengths: bytes to which all tokens together may grow

bool is_array_of(const gguf_context* gguf, int64_t id, gguf_type type) {
  return gguf_get_kv_type(gguf, id) == GGUF_TYPE_ARRAY && gguf_get_arr_type(gguf, id) == type;
}

Problem check_tokens(const std::string& path, const gguf_context* gguf, int64_t id, size_t count) {
  uint64_t squares = 0;
  for (size_t i = 0; i < count; i++) {
    const uint64_t length = std::strlen(gguf_get_arr_str(gguf, id, i));
    squares += length * length;
    if (length > kMaxTokenBytes || squares > kMaxSquares) {
      return invalid(path, "has a vocabulary with tokens of absurd length: token " + std::to_string(i) + " has " +
                               std::to_string(length) + " bytes");
    }
  }
  return std::nullopt;
}

// The blob of a SentencePiece unigram tokenizer is a size, that many bytes of a trie, then strings that end with a
// zero. llama.cpp measures them with strlen, so the last one has to end, too.
Problem check_charsmap(const std::string& path, const gguf_context* gguf) {
  const char* key = "tokenizer.ggml.precompiled_charsmap";
  const int64_t id = gguf_find_key(gguf, key);
  if (id < 0) return std::nullopt;
  if (!is_array_of(gguf, id, GGUF_TYPE_UINT8) && !is_array_of(gguf, id, GGUF_TYPE_INT8)) {
    return invalid(path, std::string("has a ") + key + " that is not an array of bytes");
  }
  const size_t size = gguf_get_arr_n(gguf, id);
  const auto* bytes = static_cast<const char*>(gguf_get_arr_data(gguf, id));
  uint32_t trie = 0;
  if (size >= sizeof(trie)) std::memcpy(&trie, bytes, sizeof(trie));
  if (size <= sizeof(trie) || trie % 4 != 0 || trie >= size - sizeof(trie) || bytes[size - 1] != '\0') {
    return invalid(path, std::string("has a damaged ") + key);
  }
  return std::nullopt;
}

}  // namespace

Problem check_vocabulary(const std::string& path, const gguf_context* gguf) {
  const int64_t tokens = gguf_find_key(gguf, "tokenizer.ggml.tokens");
  if (tokens < 0) return std::nullopt;  // llama.cpp allows models without a tokenizer
  if (!is_array_of(gguf, tokens, GGUF_TYPE_STRING)) {
    return invalid(path, "has tokenizer.ggml.tokens that are not an array of strings");
  }
  const size_t count = gguf_get_arr_n(gguf, tokens);
  if (count == 0) return invalid(path, "has an empty vocabulary");
  for (const char* key : {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}) {
    const int64_t id = gguf_find_key(gguf, key);
    if (id < 0 || gguf_get_kv_type(gguf, id) != GGUF_TYPE_ARRAY) continue;  // llama.cpp says which type it expected
    const size_t length = gguf_get_arr_n(gguf, id);
    if (length < count) {
      return invalid(
          path, std::string("has ") + std::to_string(length) + " " + key + " for " + std::to_string(count) + " tokens");
    }
  }
  if (const Problem problem = check_tokens(path, gguf, tokens, count)) return problem;
  return check_charsmap(path, gguf);
}

}  // namespace cllm
