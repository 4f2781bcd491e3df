#include "model_recipe.h"

#include <cstdint>
#include <sstream>
#include <stdexcept>

namespace cllm {

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

enum class Kind { kInteger, kNumber, kBool, kText };

Kind kind_of(const std::string& value) {
  if (value == "true" || value == "false") return Kind::kBool;
  const bool number = value.find_first_not_of("0123456789.-e") == value.npos && value.find_first_of("0123456789") < 2;
  if (!number) return Kind::kText;
  return value.find_first_of(".e") == value.npos ? Kind::kInteger : Kind::kNumber;
}

/// Whether the architecture stands before the key in a file.
bool has_prefix(const std::string& key) {
  return !key.starts_with("tokenizer.") && !key.starts_with("general.") && !key.starts_with("xielu.");
}

uint32_t to_u32(const std::string& value) { return static_cast<uint32_t>(std::stoul(value)); }

void set_one(gguf_context* file, const std::string& key, const std::string& value) {
  switch (kind_of(value)) {
    case Kind::kInteger: return gguf_set_val_u32(file, key.c_str(), to_u32(value));
    case Kind::kNumber: return gguf_set_val_f32(file, key.c_str(), std::stof(value));
    case Kind::kBool: return gguf_set_val_bool(file, key.c_str(), value == "true");
    case Kind::kText: return gguf_set_val_str(file, key.c_str(), value.c_str());
  }
}

void set_list(gguf_context* file, const std::string& key, const std::string& value, size_t layers) {
  constexpr std::string_view kLong = "u64:";
  const bool wide = value.starts_with(kLong);
  std::vector<std::string> parts = split(wide ? value.substr(kLong.size()) : value, ',');
  if (parts.back() == "...") {
    parts.pop_back();
    const std::vector<std::string> cycle = parts;
    while (parts.size() < layers) parts.push_back(cycle[parts.size() % cycle.size()]);
    parts.resize(layers);
  }
  if (wide) {
    std::vector<uint64_t> values;
    for (const std::string& part : parts) values.push_back(std::stoull(part));
    gguf_set_arr_data(file, key.c_str(), GGUF_TYPE_UINT64, values.data(), values.size());
  } else if (kind_of(parts.front()) == Kind::kNumber) {
    std::vector<float> values;
    for (const std::string& part : parts) values.push_back(std::stof(part));
    gguf_set_arr_data(file, key.c_str(), GGUF_TYPE_FLOAT32, values.data(), values.size());
  } else {
    std::vector<uint32_t> values;
    for (const std::string& part : parts) values.push_back(to_u32(part));
    gguf_set_arr_data(file, key.c_str(), GGUF_TYPE_UINT32, values.data(), values.size());
  }
}

}  // namespace

ModelRecipe::ModelRecipe(const std::string& architecture) : architecture_(architecture) {
  for (const std::string_view line : small_recipe_lines(architecture)) add(line);
}

void ModelRecipe::add(std::string_view words) {
  std::istringstream in{std::string(words)};
  for (std::string word; in >> word;) {
    const size_t equals = word.find('=');
    if (word.front() == '+') {
      wishes_[word.substr(1)] = Wish::kHas;
    } else if (word.front() == '-') {
      wishes_[word.substr(1)] = Wish::kLacks;
    } else if (equals != word.npos) {
      keys_[word.substr(0, equals)] = word.substr(equals + 1);
    } else {
      throw std::runtime_error("Expected KEY=VALUE, +TENSOR or -TENSOR but received " + word);
    }
  }
}

GgufPointer ModelRecipe::metadata() const {
  GgufPointer file(gguf_init_empty());
  gguf_set_val_str(file.get(), "general.architecture", architecture_.c_str());
  gguf_set_val_str(file.get(), "general.name", ("random " + architecture_).c_str());
  const size_t layers = to_u32(keys_.at("block_count"));
  for (const auto& [name, value] : keys_) {
    if (value.empty()) continue;
    const std::string key = has_prefix(name) ? architecture_ + "." + name : name;
    try {
      const bool list = value.find(',') != value.npos || value.starts_with("u64:");
      list ? set_list(file.get(), key, value, layers) : set_one(file.get(), key, value);
    } catch (const std::logic_error&) {
      throw std::runtime_error("Expected a value for " + name + " but received " + value);
    }
  }
  return file;
}

ModelRecipe::Wish ModelRecipe::wish(const std::string& name) const {
  const auto found = wishes_.find(name);
  return found == wishes_.end() ? Wish::kNone : found->second;
}

}  // namespace cllm
