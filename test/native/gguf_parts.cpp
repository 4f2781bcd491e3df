#include "gguf_parts.h"

#include <cstring>
#include <stdexcept>

#include "ggml.h"
#include "gguf.h"

namespace cllm::fuzz {

namespace {

constexpr size_t kAlignment = 32;

class Reader {
 public:
  explicit Reader(const std::string& bytes) : bytes_(bytes) {}
  std::string take(size_t n) {
    if (n > bytes_.size() - at_) throw std::runtime_error("not a GGUF");
    at_ += n;
    return bytes_.substr(at_ - n, n);
  }
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string string() { return take(number<uint64_t>()); }
  std::string value(uint32_t type) { return type == GGUF_TYPE_STRING ? string() : take(size_of(type)); }
  size_t at() const { return at_; }
  void seek(size_t at) { at_ = at; }

 private:
  const std::string& bytes_;
  size_t at_ = 0;
};

std::string encode_string(const std::string& text) { return encode<uint64_t>(text.size()) + text; }
void pad(std::string& bytes) { bytes.resize((bytes.size() + kAlignment - 1) / kAlignment * kAlignment); }

}  // namespace

size_t size_of(uint32_t type) {
  switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL: return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16: return 2;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64: return 8;
    default: return 4;
  }
}

size_t bytes_of(const Gguf::Tensor& tensor) {
  uint64_t elements = 1;
  for (const uint64_t size : tensor.shape) elements *= size;
  const auto type = static_cast<ggml_type>(tensor.type);
  const int64_t block = ggml_blck_size(type);
  return block == 0 ? 0 : elements / static_cast<uint64_t>(block) * ggml_type_size(type);
}

Gguf parse_gguf(const std::string& bytes) {
  Reader in(bytes);
  in.take(8);
  const auto tensors = in.number<uint64_t>(), keys = in.number<uint64_t>();
  Gguf gguf;
  for (uint64_t i = 0; i < keys; i++) {
    Gguf::Key key{in.string(), in.number<uint32_t>(), 0, {}};
    uint64_t count = 1;
    if (key.type == GGUF_TYPE_ARRAY) {
      key.element = in.number<uint32_t>();
      count = in.number<uint64_t>();
    }
    for (uint64_t n = 0; n < count; n++)
      key.values.push_back(in.value(key.type == GGUF_TYPE_ARRAY ? key.element : key.type));
    gguf.keys.push_back(std::move(key));
  }
  std::vector<uint64_t> offsets;
  for (uint64_t i = 0; i < tensors; i++) {
    Gguf::Tensor tensor{in.string(), {}, 0, {}};
    tensor.shape.resize(in.number<uint32_t>());
    for (auto& size : tensor.shape) size = in.number<uint64_t>();
    tensor.type = in.number<uint32_t>();
    offsets.push_back(in.number<uint64_t>());
    gguf.tensors.push_back(std::move(tensor));
  }
  const size_t data = (in.at() + kAlignment - 1) / kAlignment * kAlignment;
  for (size_t i = 0; i < gguf.tensors.size(); i++) {
    in.seek(data + offsets[i]);
    gguf.tensors[i].data = in.take(bytes_of(gguf.tensors[i]));
  }
  return gguf;
}

std::string encode_gguf(const Gguf& gguf) {
  std::string out =
      "GGUF" + encode<uint32_t>(3) + encode<uint64_t>(gguf.tensors.size()) + encode<uint64_t>(gguf.keys.size());
  for (const auto& key : gguf.keys) {
    out += encode_string(key.name) + encode(key.type);
    if (key.type == GGUF_TYPE_ARRAY) out += encode(key.element) + encode<uint64_t>(key.values.size());
    const uint32_t type = key.type == GGUF_TYPE_ARRAY ? key.element : key.type;
    for (const auto& value : key.values) out += type == GGUF_TYPE_STRING ? encode_string(value) : value;
  }
  uint64_t offset = 0;
  for (const auto& tensor : gguf.tensors) {
    out += encode_string(tensor.name) + encode<uint32_t>(static_cast<uint32_t>(tensor.shape.size()));
    for (const uint64_t size : tensor.shape) out += encode(size);
    out += encode(tensor.type) + encode(offset);
    offset += (tensor.data.size() + kAlignment - 1) / kAlignment * kAlignment;
  }
  pad(out);
  for (const auto& tensor : gguf.tensors) {
    out += tensor.data;
    pad(out);
  }
  return out;
}

}  // namespace cllm::fuzz
