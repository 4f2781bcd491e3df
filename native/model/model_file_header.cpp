#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "gguf.h"
#include "model/model_file_checks.h"

namespace cllm {

namespace {

namespace fs = std::filesystem;

// Limits far beyond any published model. ggml compares every name with all names before it, so more of them
// would take minutes.
constexpr uint64_t kMaxKeys = 1 << 14;
constexpr uint64_t kMaxTensors = 1 << 15;
constexpr uint64_t kMaxNameBytes = 65535;         // of a key, by the GGUF specification
constexpr uint64_t kMaxStringBytes = 256u << 20;  // tokenizer.huggingface.json has tens of megabytes
constexpr uint64_t kMaxElements = 1 << 24;        // of an array; the largest vocabularies have half a million merges
constexpr uint64_t kMaxStrings = 1 << 25;         // of all arrays: each takes 32 bytes of memory and 8 of the file
constexpr uint64_t kMaxElementsPerByte = 64;      // no type packs more; it bounds a tensor before its size is computed

// What users often pass instead of a GGUF file, recognised by its first bytes.
const char* other_format(std::string_view head) {
  const auto begins = [&](std::string_view magic) { return head.substr(0, magic.size()) == magic; };
  if (begins("PK\x03\x04")) return "a zip archive (a PyTorch checkpoint or a wheel?)";
  if (begins("\x80\x02")) return "a Python pickle (an old PyTorch checkpoint?): convert it to GGUF";
  if (begins("\x1f\x8b")) return "a gzip archive";
  if (begins("ggjt") || begins("tjgg") || begins("lmgg") || begins("fmgg") || begins("tgjt")) {
    return "a GGML file of before August 2023: convert it to GGUF";
  }
  if (begins("FUGG")) return "a GGUF file of the other byte order";
  if (begins("<!DO") || begins("<!do") || begins("<htm") || begins("<HTM"))
    return "an HTML page (a download that failed?)";
  if (begins("version https://git-lfs")) return "a Git LFS pointer: fetch the file itself with git lfs pull";
  if (head.size() >= 9 && head[8] == '{') return "a safetensors file: convert it to GGUF";
  if (begins("{")) return "a JSON file";
  return nullptr;
}

// Reads forward only, through a buffer of its own: std::ifstream throws its buffer away with every seek.
class Reader {
 public:
  Reader(std::ifstream& in, uint64_t size) : in_(in), remaining_(size) {}

  uint64_t remaining() const { return remaining_; }

  bool bytes(void* to, uint64_t count) {
    if (count > remaining_) return false;
    remaining_ -= count;
    auto* out = static_cast<char*>(to);
    while (count > 0) {
      if (at_ == end_ && !fill()) return false;
      const size_t part = std::min<uint64_t>(count, end_ - at_);
      std::memcpy(out, buffer_ + at_, part);
      out += part;
      at_ += part;
      count -= part;
    }
    return true;
  }

  template <typename T>
  bool number(T& value) {
    return bytes(&value, sizeof(value));
  }

  bool skip(uint64_t count) {
    if (count > remaining_) return false;
    remaining_ -= count;
    const uint64_t buffered = end_ - at_;
    if (count <= buffered) {
      at_ += count;
      return true;
    }
    at_ = end_ = 0;
    in_.seekg(static_cast<std::streamoff>(count - buffered), std::ios::cur);
    return in_.good();
  }

 private:
  bool fill() {
    in_.read(buffer_, sizeof(buffer_));
    at_ = 0;
    end_ = static_cast<size_t>(in_.gcount());
    return end_ > 0;
  }

  std::ifstream& in_;
  uint64_t remaining_;
  char buffer_[1 << 14];
  size_t at_ = 0, end_ = 0;
};

uint64_t size_of(uint32_t type) {
  switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL: return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16: return 2;
    case GGUF_TYPE_UINT32:
    case GGUF_TYPE_INT32:
    case GGUF_TYPE_FLOAT32: return 4;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64: return 8;
    default: return 0;
  }
}

// Walks over keys and tensors. Its methods return what is wrong, as the end of a sentence, or an empty string.
class HeaderWalk {
 public:
  HeaderWalk(Reader& in, uint64_t file_size) : in_(in), file_size_(file_size) {}

  std::string keys(uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
      std::string name;
      if (!read_name(name, kMaxNameBytes)) return damaged("key " + std::to_string(i));
      const std::string problem = value(name);
      if (!problem.empty()) return problem;
    }
    return "";
  }

  std::string tensors(uint64_t count, std::vector<TensorEntry>& entries) {
    for (uint64_t i = 0; i < count; i++) {
      TensorEntry entry{"", {}, 1, 0};
      uint32_t dimensions = 0;
      if (!read_name(entry.name, kMaxNameBytes) || !in_.number(dimensions))
        return damaged("tensor " + std::to_string(i));
      const std::string tensor = "tensor " + entry.name;
      if (dimensions > 4) return damaged(tensor + ": it has " + std::to_string(dimensions) + " dimensions");
      for (uint32_t d = 0; d < dimensions; d++) {
        uint64_t size = 0;
        if (!in_.number(size)) return damaged(tensor);
        // The division comes before the multiplication of sizes, so that nothing can overflow.
        if (size == 0 || size > file_size_ * kMaxElementsPerByte / entry.elements) {
          return damaged(tensor + ": a dimension of " + std::to_string(size) + " cannot be");
        }
        entry.elements *= size;
        entry.shape.push_back(size);
      }
      if (!in_.number(entry.type) || !in_.skip(sizeof(uint64_t))) return damaged(tensor);
      entries.push_back(std::move(entry));
    }
    return "";
  }

 private:
  static std::string damaged(const std::string& where) { return "is damaged or incomplete at " + where; }

  bool read_name(std::string& name, uint64_t max_bytes) {
    uint64_t length = 0;
    if (!in_.number(length) || length > max_bytes || length > in_.remaining()) return false;
    name.resize(length);
    return in_.bytes(name.data(), length);
  }

  bool skip_string() {
    uint64_t length = 0;
    return in_.number(length) && length <= kMaxStringBytes && in_.skip(length);
  }

  std::string value(const std::string& key) {
    uint32_t type = 0;
    if (!in_.number(type)) return damaged(key);
    uint64_t count = 1;
    if (type == GGUF_TYPE_ARRAY) {
      if (!in_.number(type) || !in_.number(count)) return damaged(key);
      if (count > kMaxElements || count > in_.remaining()) {
        return damaged(key + ": an array of " + std::to_string(count) + " elements cannot be");
      }
    }
    if (type == GGUF_TYPE_STRING) {
      strings_ += count;
      if (strings_ > kMaxStrings) return damaged(key + ": too many strings");
      for (uint64_t i = 0; i < count; i++) {
        if (!skip_string()) return damaged(key);
      }
      return "";
    }
    const uint64_t size = size_of(type);
    if (size == 0) return damaged(key + ": there is no type " + std::to_string(type));
    return in_.skip(count * size) ? "" : damaged(key);
  }

  Reader& in_;
  uint64_t file_size_;
  uint64_t strings_ = 0;
};

}  // namespace

Problem check_header(const std::string& path, std::vector<TensorEntry>& tensors) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    if (status.type() == fs::file_type::not_found) {
      return ModelFileError{"CLLM_MODEL_NOT_FOUND", "Expected a GGUF file but " + path + " does not exist"};
    }
    return invalid(path, "cannot be read: " + error.message());
  }
  if (fs::is_directory(status)) return invalid(path, "is a directory");
  if (!fs::is_regular_file(status)) return invalid(path, "is not a regular file");
  const uint64_t file_size = fs::file_size(path, error);
  std::ifstream in(path, std::ios::binary);
  if (error || !in) return invalid(path, "cannot be read");

  char head[24] = {};
  in.read(head, sizeof(head));
  const auto size = static_cast<size_t>(in.gcount());
  if (size == 0) return invalid(path, "is empty");
  if (std::memcmp(head, "GGUF", std::min<size_t>(size, 4)) != 0) {
    const char* format = other_format(std::string_view(head, size));
    return invalid(path, format != nullptr ? std::string("is ") + format : "is of another format");
  }
  // The fixed part holds magic, version, tensor count and key count.
  if (size < sizeof(head)) {
    return invalid(path, "ends after " + std::to_string(size) + " bytes: the download is incomplete");
  }
  uint32_t version = 0;
  std::memcpy(&version, head + 4, sizeof(version));
  if ((version & 0xffff) == 0) return invalid(path, "is of the other byte order");
  if (version < 2 || version > 3) {
    return invalid(path, "is GGUF version " + std::to_string(version) + " (2 and 3 are supported)");
  }
  uint64_t tensor_count = 0, keys = 0;
  std::memcpy(&tensor_count, head + 8, sizeof(tensor_count));
  std::memcpy(&keys, head + 16, sizeof(keys));
  // The smallest tensor entry is a name's length, dimensions, type and offset; the smallest key a name's length, a byte
  // and a type.
  if (tensor_count > kMaxTensors || tensor_count > file_size / 24) {
    return invalid(path, "declares " + std::to_string(tensor_count) + " tensors, more than can be");
  }
  if (keys > kMaxKeys || keys > file_size / 13) {
    return invalid(path, "declares " + std::to_string(keys) + " keys, more than can be");
  }
  Reader reader(in, file_size - sizeof(head));
  HeaderWalk walk(reader, file_size);
  std::string problem = walk.keys(keys);
  if (problem.empty()) problem = walk.tensors(tensor_count, tensors);
  if (!problem.empty()) return invalid(path, problem);
  return std::nullopt;
}

}  // namespace cllm
