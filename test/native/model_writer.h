#pragma once

#include <string>
#include <vector>

#include "model_recipe.h"
#include "random_weights.h"

namespace cllm {

/// A tensor of the file to be written.
struct PlannedTensor {
  std::string name;
  std::vector<int64_t> shape;
  ggml_type type;
};

/// The memory that llama.cpp creates for a model of the recipe, e.g. "hybrid". Throws std::runtime_error with
/// llama.cpp's reason where it loads no such model.
std::string memory_class(const ModelRecipe& recipe);

/// Writes a model of the recipe with random weights to `path`. `type` is a type as llama-quantize has them, in small
/// letters (q4_k_m ...). Needs memory for some rows only. Throws std::runtime_error.
void write_model(const ModelRecipe& recipe, const std::string& type, const WeightOptions& options,
                 const std::string& path);

}  // namespace cllm
