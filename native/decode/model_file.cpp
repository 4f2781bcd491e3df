#include "decode/model_file.h"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string_view>
#include <vector>

#include "decode/ggml_guard.h"
#include "gguf.h"
#include "llama.h"

namespace cllm {

namespace {

namespace fs = std::filesystem;
using Problem = std::optional<ModelFileError>;

Problem invalid(const std::string& path, const std::string& what) {
  return ModelFileError{"CLLM_INVALID_MODEL", "Expected a GGUF file but " + path + " " + what};
}

// What people hand over instead of a GGUF, by its first bytes.
const char* other_format(std::string_view head) {
  const auto begins = [&](std::string_view magic) { return head.substr(0, magic.size()) == magic; };
  if (begins("PK\x03\x04")) return "a zip archive (a PyTorch checkpoint or a wheel?)";
  if (begins("\x1f\x8b")) return "a gzip archive";
  if (begins("ggjt") || begins("tjgg") || begins("lmgg") || begins("fmgg") || begins("tgjt")) {
    return "a GGML file of before August 2023: convert it to GGUF";
  }
  if (begins("FUGG")) return "a GGUF file of the other byte order";
  if (begins("<!DO") || begins("<htm") || begins("<HTM")) return "an HTML page (a download that failed?)";
  if (begins("version https://git-lfs")) return "a Git LFS pointer: fetch the file itself with git lfs pull";
  if (head.size() >= 9 && head[8] == '{') return "a safetensors file: convert it to GGUF";
  return nullptr;
}

Problem check_bytes(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    return ModelFileError{"CLLM_MODEL_NOT_FOUND", "Expected a GGUF file but " + path + " does not exist"};
  }
  if (fs::is_directory(status)) return invalid(path, "is a directory");
  if (!fs::is_regular_file(status)) return invalid(path, "is not a regular file");
  std::ifstream in(path, std::ios::binary);
  if (!in) return invalid(path, "cannot be read");
  char head[24] = {};
  in.read(head, sizeof(head));
  const auto size = static_cast<size_t>(in.gcount());
  if (size == 0) return invalid(path, "is empty");
  if (std::memcmp(head, "GGUF", std::min<size_t>(size, 4)) != 0) {
    const char* format = other_format(std::string_view(head, size));
    return invalid(path, format != nullptr ? std::string("is ") + format : "is of another format");
  }
  // magic, version, tensor count, key count
  if (size < sizeof(head))
    return invalid(path, "ends after " + std::to_string(size) + " bytes: the download is incomplete");
  uint32_t version = 0;
  std::memcpy(&version, head + 4, sizeof(version));
  if ((version & 0xffff) == 0) return invalid(path, "is of the other byte order");
  if (version < 2 || version > 3) {
    return invalid(path, "is GGUF version " + std::to_string(version) + " (2 and 3 are supported)");
  }
  // The smallest entries there can be: nothing is allocated for counts that cannot be true.
  uint64_t tensors = 0, keys = 0;
  std::memcpy(&tensors, head + 8, sizeof(tensors));
  std::memcpy(&keys, head + 16, sizeof(keys));
  const uint64_t file_size = fs::file_size(path, error);
  if (tensors > file_size / 24)
    return invalid(path, "declares " + std::to_string(tensors) + " tensors, more than fit into it");
  if (keys > file_size / 13) return invalid(path, "declares " + std::to_string(keys) + " keys, more than fit into it");
  return std::nullopt;
}

struct GgufFree {
  void operator()(gguf_context* gguf) const { gguf_free(gguf); }
};
using Gguf = std::unique_ptr<gguf_context, GgufFree>;

// An integer key of any integer type, or `fallback` when there is none or it is an array.
int64_t integer_key(const gguf_context* gguf, const std::string& key, int64_t fallback) {
  const int64_t id = gguf_find_key(gguf, key.c_str());
  if (id < 0) return fallback;
  switch (gguf_get_kv_type(gguf, id)) {
    case GGUF_TYPE_UINT8: return gguf_get_val_u8(gguf, id);
    case GGUF_TYPE_INT8: return gguf_get_val_i8(gguf, id);
    case GGUF_TYPE_UINT16: return gguf_get_val_u16(gguf, id);
    case GGUF_TYPE_INT16: return gguf_get_val_i16(gguf, id);
    case GGUF_TYPE_UINT32: return gguf_get_val_u32(gguf, id);
    case GGUF_TYPE_INT32: return gguf_get_val_i32(gguf, id);
    case GGUF_TYPE_INT64: return gguf_get_val_i64(gguf, id);
    case GGUF_TYPE_UINT64: return static_cast<int64_t>(std::min<uint64_t>(gguf_get_val_u64(gguf, id), INT64_MAX));
    default: return fallback;
  }
}

// Values of an integer key that llama.cpp may also find as an array, one per layer.
std::vector<int64_t> integers_of(const gguf_context* gguf, const std::string& key) {
  const int64_t id = gguf_find_key(gguf, key.c_str());
  if (id < 0) return {};
  if (gguf_get_kv_type(gguf, id) != GGUF_TYPE_ARRAY) return {integer_key(gguf, key, 0)};
  const gguf_type type = gguf_get_arr_type(gguf, id);
  if (type != GGUF_TYPE_UINT32 && type != GGUF_TYPE_INT32) return {};
  const auto* data = static_cast<const int32_t*>(gguf_get_arr_data(gguf, id));
  return {data, data + gguf_get_arr_n(gguf, id)};
}

// Sizes that llama.cpp computes with before it has compared them with the tensors: ranges in which its arithmetic is
// safe, and wide enough for every published model.
constexpr struct {
  const char* key;
  int64_t lowest, highest;
} kRanges[] = {
    {"block_count", 1, 512},
    {"context_length", 1, INT32_MAX},
    {"embedding_length", 1, 1 << 20},
    {"embedding_length_out", 1, 1 << 20},
    {"feed_forward_length", 0, 1 << 24},
    {"expert_feed_forward_length", 0, 1 << 24},
    {"expert_shared_feed_forward_length", 0, 1 << 24},
    {"leading_dense_block_count", 0, 512},
    {"attention.head_count", 0, 1 << 14},
    {"attention.head_count_kv", 0, 1 << 14},
    {"attention.key_length", 1, 1 << 16},
    {"attention.value_length", 1, 1 << 16},
    {"attention.key_length_swa", 1, 1 << 16},
    {"attention.value_length_swa", 1, 1 << 16},
    {"attention.sliding_window", 0, INT32_MAX},
    {"attention.group_norm_groups", 1, 1 << 16},
    {"rope.dimension_count", 0, 1 << 16},
    {"rope.dimension_count_swa", 0, 1 << 16},
    {"rope.scaling.original_context_length", 0, INT32_MAX},
    {"expert_count", 0, 1024},
    {"expert_used_count", 0, 1024},
    {"vocab_size", 1, 1 << 24},
    {"ssm.conv_kernel", 1, 1 << 10},
    {"ssm.inner_size", 1, 1 << 20},
    {"ssm.state_size", 1, 1 << 16},
    {"ssm.time_step_rank", 1, 1 << 20},
    {"ssm.group_count", 0, 1 << 16},
    {"wkv.head_size", 1, 1 << 16},
    {"token_shift_count", 0, 16},
};

Problem check_sizes(const std::string& path, const gguf_context* gguf, const std::string& architecture) {
  for (const auto& range : kRanges) {
    const std::string key = architecture + "." + range.key;
    for (const int64_t value : integers_of(gguf, key)) {
      if (value >= range.lowest && value <= range.highest) continue;
      return invalid(path, "has " + key + " = " + std::to_string(value) + ", expected " + std::to_string(range.lowest) +
                               " to " + std::to_string(range.highest));
    }
  }
  const int64_t embedding = integer_key(gguf, architecture + ".embedding_length", 0);
  const std::vector<int64_t> heads = integers_of(gguf, architecture + ".attention.head_count");
  const std::vector<int64_t> heads_kv = integers_of(gguf, architecture + ".attention.head_count_kv");
  const bool has_key_length = gguf_find_key(gguf, (architecture + ".attention.key_length").c_str()) >= 0;
  for (size_t i = 0; i < heads.size(); i++) {
    const std::string at = architecture + ".attention.head_count = " + std::to_string(heads[i]);
    if (heads[i] > 0 && !has_key_length && (embedding < heads[i] || embedding % heads[i] != 0)) {
      return invalid(path, "has " + at + ", which does not divide its embedding_length " + std::to_string(embedding));
    }
    const int64_t kv = heads_kv.empty() ? heads[i] : heads_kv[std::min(i, heads_kv.size() - 1)];
    if (kv > 0 && heads[i] % kv != 0) {
      return invalid(path, "has " + at + ", which its head_count_kv " + std::to_string(kv) + " does not divide");
    }
  }
  return std::nullopt;
}

Problem check_vocabulary(const std::string& path, const gguf_context* gguf) {
  const int64_t tokens = gguf_find_key(gguf, "tokenizer.ggml.tokens");
  if (tokens < 0) return std::nullopt;  // llama.cpp knows models without a tokenizer
  if (gguf_get_kv_type(gguf, tokens) != GGUF_TYPE_ARRAY || gguf_get_arr_type(gguf, tokens) != GGUF_TYPE_STRING) {
    return invalid(path, "has tokenizer.ggml.tokens that are not an array of strings");
  }
  const size_t count = gguf_get_arr_n(gguf, tokens);
  if (count == 0) return invalid(path, "has an empty vocabulary");
  for (const char* key : {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}) {
    const int64_t id = gguf_find_key(gguf, key);
    if (id < 0 || gguf_get_kv_type(gguf, id) != GGUF_TYPE_ARRAY) continue;
    const size_t length = gguf_get_arr_n(gguf, id);
    if (length < count) {
      return invalid(
          path, std::string("has ") + std::to_string(length) + " " + key + " for " + std::to_string(count) + " tokens");
    }
  }
  return std::nullopt;
}

Problem check_tensors(const std::string& path, const gguf_context* gguf) {
  std::error_code error;
  const uint64_t file_size = fs::file_size(path, error);
  const uint64_t data = gguf_get_data_offset(gguf);
  const int64_t count = gguf_get_n_tensors(gguf);
  for (int64_t i = 0; i < count; i++) {
    const uint64_t offset = gguf_get_tensor_offset(gguf, i);
    const uint64_t size = gguf_get_tensor_size(gguf, i);
    if (data <= file_size && size <= file_size - data && offset <= file_size - data - size) continue;
    return invalid(path, std::string("ends before tensor ") + gguf_get_tensor_name(gguf, i) +
                             ": the download is incomplete or the file is damaged");
  }
  return std::nullopt;
}

// Where the parts of a split model are, by llama.cpp's naming rule; only the path itself for other files.
Problem split_parts(const std::string& path, const gguf_context* gguf, std::vector<std::string>& parts) {
  const int64_t count = integer_key(gguf, "split.count", 1);
  if (count <= 1) {
    parts = {path};
    return std::nullopt;
  }
  const int64_t index = integer_key(gguf, "split.no", 0);
  if (count > 9999 || index < 0 || index >= count)
    return invalid(path, "has split.no and split.count that make no sense");
  std::vector<char> prefix(path.size() + 1);
  if (llama_split_prefix(prefix.data(), prefix.size(), path.c_str(), static_cast<int>(index),
                         static_cast<int>(count)) == 0) {
    return invalid(path, "is part " + std::to_string(index + 1) + " of " + std::to_string(count) +
                             " of a split model but is not named like one (NAME-00001-of-00003.gguf)");
  }
  for (int i = 0; i < count; i++) {
    std::vector<char> part(path.size() + 64);
    llama_split_path(part.data(), part.size(), prefix.data(), i, static_cast<int>(count));
    parts.emplace_back(part.data());
  }
  return std::nullopt;
}

Gguf read_gguf(const std::string& path, std::string& reason) {
  clear_last_log_error();
  try {
    GgmlGuard guard;
    // no_alloc: neither tensors nor data are created. The reader compares every length with what is left of the file.
    Gguf gguf(gguf_init_from_file(path.c_str(), {/*.no_alloc =*/true, /*.ctx =*/nullptr}));
    reason = take_last_log_error();
    return gguf;
  } catch (const std::exception& error) {
    reason = error.what();
    return nullptr;
  }
}

Problem check_part(const std::string& path) {
  if (const Problem problem = check_bytes(path)) return problem;
  std::string reason;
  const Gguf gguf = read_gguf(path, reason);
  if (gguf == nullptr)
    return invalid(path, "is damaged or incomplete: " + (reason.empty() ? "no reason given" : reason));
  return check_tensors(path, gguf.get());
}

}  // namespace

std::optional<ModelFileError> check_model_file(const std::string& path) {
  if (const Problem problem = check_part(path)) return problem;
  std::string reason;
  const Gguf gguf = read_gguf(path, reason);
  std::vector<std::string> parts;
  if (const Problem problem = split_parts(path, gguf.get(), parts)) return problem;
  for (const std::string& part : parts) {
    if (part == path) continue;
    if (const Problem problem = check_part(part)) return problem;
  }
  // The metadata are in the first part; llama.cpp asks for that one, too.
  if (parts.front() != path) {
    return invalid(path, "is not the first part of a split model: pass " + parts.front());
  }
  const int64_t id = gguf_find_key(gguf.get(), "general.architecture");
  if (id < 0 || gguf_get_kv_type(gguf.get(), id) != GGUF_TYPE_STRING) {
    return invalid(path, "does not say its general.architecture");
  }
  if (gguf_get_n_tensors(gguf.get()) == 0) return invalid(path, "has no tensors");
  if (const Problem problem = check_sizes(path, gguf.get(), gguf_get_val_str(gguf.get(), id))) return problem;
  return check_vocabulary(path, gguf.get());
}

}  // namespace cllm
