#include "gguf_mutator.h"

#include <cstring>
#include <iterator>

#include "ggml.h"
#include "gguf.h"
#include "gguf_names.h"

namespace cllm::fuzz {

namespace {

constexpr uint64_t kInteresting[] = {
    0,        1,          2,          3,          4,          5,          7,          8,     15,    16,
    31,       32,         33,         63,         64,         65,         127,        128,   129,   255,
    256,      512,        513,        1023,       1024,       1025,       4096,       65535, 65536, 1u << 20,
    1u << 24, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, 1ull << 32, 1ull << 40, ~0ull};
constexpr float kFloats[] = {0, -0.0f, 1, -1, 1e-30f, 1e30f, -1e30f, 1e38f};

// Names for a copy of a tensor, which tensors of some models have.
constexpr const char* kTensorNames[] = {"rope_freqs.weight",
                                        "output.bias",
                                        "output_norm.bias",
                                        "blk.0.attn_q.bias",
                                        "blk.0.attn_qkv.weight",
                                        "blk.0.attn_output.bias",
                                        "blk.0.ffn_gate.bias",
                                        "blk.0.ffn_gate_inp.weight",
                                        "blk.0.ffn_gate_exps.weight",
                                        "blk.0.attn_q.scale",
                                        "blk.0.ffn_up.input_scale",
                                        "blk.0.attn_q_norm.weight",
                                        "blk.1.attn_v.bias",
                                        "cls.weight",
                                        "dense_2.weight",
                                        "per_layer_token_embd.weight"};

uint64_t number_of(const Gguf::Key& key) {
  uint64_t value = 0;
  if (key.type != GGUF_TYPE_STRING && key.type != GGUF_TYPE_ARRAY)
    std::memcpy(&value, key.values[0].data(), std::min<size_t>(8, key.values[0].size()));
  return value;
}

class Mutator {
 public:
  Mutator(Gguf& gguf, std::mt19937_64& random, std::string& what) : gguf_(gguf), random_(random), what_(what) {}

  void edit() {
    switch (below(12)) {
      case 0:
      case 1: return change_value();
      case 2: return change_type();
      case 3: return make_array();
      case 4: return remove_key();
      case 5:
      case 6: return add_key();
      case 7: return change_array();
      case 8: return rename_architecture();
      case 9: return change_tokenizer();
      default: return change_tensor();
    }
  }

 private:
  size_t below(size_t n) { return n == 0 ? 0 : static_cast<size_t>(random_() % n); }
  template <typename T, size_t N>
  T any(const T (&items)[N]) {
    return items[below(N)];
  }
  Gguf::Key& any_key() { return gguf_.keys[below(gguf_.keys.size())]; }
  Gguf::Key* find(const std::string& name) {
    for (auto& key : gguf_.keys)
      if (key.name == name) return &key;
    return nullptr;
  }
  std::string architecture() {
    const auto* key = find("general.architecture");
    return key != nullptr && key->type == GGUF_TYPE_STRING ? key->values[0] : "llama";
  }
  std::string random_value(uint32_t type, uint64_t near = 0) {
    if (type == GGUF_TYPE_STRING)
      return std::string(below(8) == 0 ? below(100000) : below(20), static_cast<char>(random_()));
    if (type == GGUF_TYPE_BOOL) return encode<uint8_t>(static_cast<uint8_t>(below(2)));
    if (type == GGUF_TYPE_FLOAT32 || type == GGUF_TYPE_FLOAT64) {
      const float value = below(8) == 0 ? __builtin_nanf("") : any(kFloats);
      return type == GGUF_TYPE_FLOAT32 ? encode(value) : encode<double>(value);
    }
    uint64_t value = any(kInteresting);
    switch (below(5)) {
      case 0: value = near + below(5) - 2; break;
      case 1: value = near * 2; break;
      case 2: value = near / 2; break;
      default: break;
    }
    return encode(value).substr(0, size_of(type));
  }

  void change_value() {
    auto& key = any_key();
    if (key.type == GGUF_TYPE_ARRAY) return change_array_of(key);
    const uint64_t near = number_of(key);
    key.values[0] = random_value(key.type, near);
    what_ += " " + key.name + ":" + std::to_string(near) + "->" + std::to_string(number_of(key));
  }
  void change_type() {
    auto& key = any_key();
    if (key.type == GGUF_TYPE_ARRAY) {
      // The array keeps its length and gets another element type.
      const uint32_t type = static_cast<uint32_t>(below(13));
      if (type == GGUF_TYPE_ARRAY) return;
      for (auto& value : key.values)
        value = type == GGUF_TYPE_STRING ? value : (value + std::string(8, '\0')).substr(0, size_of(type));
      key.element = type;
    } else {
      const uint32_t type = static_cast<uint32_t>(below(13));
      if (type == GGUF_TYPE_ARRAY) return;
      if (type != GGUF_TYPE_STRING) key.values[0] = (key.values[0] + std::string(8, '\0')).substr(0, size_of(type));
      key.type = type;
    }
    what_ += " " + key.name + " of type " + std::to_string(key.type) + "/" + std::to_string(key.element);
  }
  void make_array() {
    auto& key = any_key();
    if (key.type == GGUF_TYPE_ARRAY) {
      key.type = key.element;
      key.values.resize(1, std::string(size_of(key.type), '\0'));
    } else {
      constexpr size_t kLengths[] = {0, 1, 2, 3, 4, 5, 64, 511, 512, 513, 1000};
      key.element = key.type;
      key.type = GGUF_TYPE_ARRAY;
      const size_t length = any(kLengths);
      key.values.resize(length, key.values[0]);
      if (length > 0 && below(2) == 0) key.values[below(length)] = random_value(key.element, 1);
    }
    what_ += " " + key.name + " array/scalar of " + std::to_string(key.values.size());
  }
  void remove_key() {
    const size_t at = below(gguf_.keys.size());
    what_ += " without " + gguf_.keys[at].name;
    gguf_.keys.erase(gguf_.keys.begin() + static_cast<std::ptrdiff_t>(at));
  }
  void add_key() {
    std::string name = any(kKeys);
    if (name[0] == '.') name = architecture() + name;
    constexpr uint32_t kTypes[] = {GGUF_TYPE_UINT32, GGUF_TYPE_UINT32, GGUF_TYPE_UINT32, GGUF_TYPE_FLOAT32,
                                   GGUF_TYPE_BOOL,   GGUF_TYPE_STRING, GGUF_TYPE_INT32};
    Gguf::Key key{name, any(kTypes), 0, {}};
    key.values = {random_value(key.type, 2)};
    if (below(4) == 0) {
      constexpr size_t kLengths[] = {0, 1, 2, 3, 4, 5, 512, 513};
      key.element = key.type;
      key.type = GGUF_TYPE_ARRAY;
      key.values.assign(any(kLengths), key.values[0]);
    }
    what_ += " " + name + "=" + std::to_string(number_of(key)) + " of type " + std::to_string(key.type) + "/" +
             std::to_string(key.element) + " x" + std::to_string(key.values.size());
    if (auto* old = find(name))
      *old = key;
    else
      gguf_.keys.push_back(key);
  }
  void change_array() {
    std::vector<Gguf::Key*> arrays;
    for (auto& key : gguf_.keys)
      if (key.type == GGUF_TYPE_ARRAY) arrays.push_back(&key);
    if (!arrays.empty()) change_array_of(*arrays[below(arrays.size())]);
  }
  void change_array_of(Gguf::Key& key) {
    auto& values = key.values;
    const size_t at = below(values.size());
    switch (below(5)) {
      case 0: values.resize(below(3) == 0 ? at : values.size() - std::min<size_t>(values.size(), 1)); break;
      case 1:
        if (!values.empty()) values.push_back(values.back());
        break;
      case 2:
        if (!values.empty()) values[at] = random_value(key.element, 3);
        break;
      case 3:
        if (!values.empty()) values[at] = values[below(values.size())];
        break;
      default:
        for (size_t i = at; i < std::min(values.size(), at + 1 + below(300)); i++)
          values[i] = random_value(key.element, 2);
    }
    what_ += " " + key.name + "[" + std::to_string(at) + "] of " + std::to_string(values.size());
  }
  void rename_architecture() {
    const std::string from = architecture(), to = any(kArchitectures);
    for (auto& key : gguf_.keys) {
      if (key.name.starts_with(from + ".")) key.name = to + key.name.substr(from.size());
      if (key.name == "general.architecture" && key.type == GGUF_TYPE_STRING) key.values[0] = to;
    }
    what_ += " as " + to;
  }
  void change_tokenizer() {
    const bool pre = below(2) == 0;
    const std::string name = pre ? "tokenizer.ggml.pre" : "tokenizer.ggml.model";
    const std::string value = pre ? any(kPreTokenizers) : any(kTokenizers);
    if (auto* key = find(name))
      *key = {name, GGUF_TYPE_STRING, 0, {value}};
    else
      gguf_.keys.push_back({name, GGUF_TYPE_STRING, 0, {value}});
    what_ += " " + name + "=" + value;
  }
  void change_tensor() {
    if (gguf_.tensors.empty()) return;
    const size_t at = below(gguf_.tensors.size());
    auto& tensor = gguf_.tensors[at];
    what_ += " " + tensor.name;
    switch (below(7)) {
      case 0:
        what_ += " gone";
        gguf_.tensors.erase(gguf_.tensors.begin() + static_cast<std::ptrdiff_t>(at));
        return;
      case 1:
      case 2:
        tensor.type = static_cast<uint32_t>(below(GGML_TYPE_COUNT));
        what_ += " type " + std::to_string(tensor.type);
        break;
      case 3:
        if (tensor.shape.size() > 1) std::swap(tensor.shape[0], tensor.shape[1]);
        what_ += " transposed";
        break;
      case 4: {
        tensor.shape[below(tensor.shape.size())] =
            below(2) == 0 ? any(kInteresting) % 65536 : tensor.shape[0] + below(65) - 32;
        what_ += " reshaped";
        break;
      }
      case 5:
        if (tensor.shape.size() < 4) tensor.shape.push_back(below(3));
        what_ += " more dims";
        break;
      default: {
        Gguf::Tensor copy = tensor;
        copy.name = any(kTensorNames);
        if (below(2) == 0) {
          constexpr uint64_t kSizes[] = {1, 2, 8, 16, 32, 64, 128};
          copy.shape = {any(kSizes)};
          if (below(3) == 0) copy.type = 0;
        }
        for (const auto& other : gguf_.tensors)
          if (other.name == copy.name) return;
        what_ += " also as " + copy.name;
        gguf_.tensors.push_back(copy);
        fit(gguf_.tensors.back());
        return;
      }
    }
    fit(tensor);
  }
  // Gives the tensor data of the size that its type and shape need, so that only llama.cpp itself can refuse it.
  void fit(Gguf::Tensor& tensor) {
    const size_t size = bytes_of(tensor);
    if (size < (64u << 20)) tensor.data.resize(size, '\x11');
  }

  Gguf& gguf_;
  std::mt19937_64& random_;
  std::string& what_;
};

}  // namespace

void mutate_structure(Gguf& gguf, std::mt19937_64& random, std::string& what) {
  Mutator mutator(gguf, random, what);
  const int edits = 1 + static_cast<int>(random() % 3);
  for (int i = 0; i < edits && !gguf.keys.empty(); i++) mutator.edit();
}

}  // namespace cllm::fuzz
