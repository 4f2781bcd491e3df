#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/ggml_pointers.h"

namespace cllm {

/// What a generated model is made from: the metadata of its file, and which tensors of those that llama.cpp would
/// accept the file has. Recipes are lines of words:
///   KEY=VALUE  a key of the file, without the architecture's prefix. Integers are u32, numbers with a point f32; words
///              are strings. A list becomes an array; a list that ends with "..." is repeated for every layer; a
///              list that begins with "u64:" has such integers. An empty value takes the key away.
///   +TENSOR    the file has this optional tensor, e.g. +attn_q.bias
///   -TENSOR    the file does not have it, e.g. -output.weight where the output shares the table of embeddings
/// Later words win over earlier ones.
class ModelRecipe {
 public:
  /// The recipe of a small model of the architecture.
  explicit ModelRecipe(const std::string& architecture);

  void add(std::string_view words);

  const std::string& architecture() const { return architecture_; }
  /// The file's keys. Throws std::runtime_error where a value makes no sense.
  GgufPointer metadata() const;
  /// Whether the file shall have the optional tensor: yes, no, or nothing is said of it. `name` is without "blk.N.".
  enum class Wish { kNone, kHas, kLacks };
  Wish wish(const std::string& name) const;

 private:
  std::string architecture_;
  std::map<std::string, std::string> keys_;
  std::map<std::string, Wish> wishes_;
};

/// A model of a size that people use.
struct RealShape {
  const char* name;
  const char* architecture;
  const char* recipe;
};

/// The shape of that name, or null.
const RealShape* find_real_shape(std::string_view name);
std::string real_shape_names();

/// The lines of recipes for small models that hold for the architecture, in the order in which they hold.
std::vector<std::string_view> small_recipe_lines(std::string_view architecture);

}  // namespace cllm
