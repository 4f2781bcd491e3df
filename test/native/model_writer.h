#pragma once

#include <string>

#include "model_recipe.h"
#include "random_weights.h"

namespace cllm {

/// The memory that llama.cpp creates for a model of the recipe, e.g. "hybrid". Writes a file without weights to
/// `scratch_path` for that. Throws std::runtime_error with llama.cpp's reason where it loads no such model.
std::string memory_class(const ModelRecipe& recipe, const std::string& scratch_path);

/// Writes a model of the recipe with random weights to `path`. `type` is a type as llama-quantize has them, in small
/// letters (q4_k_m ...). Needs memory for some rows only. Throws std::runtime_error.
void write_model(const ModelRecipe& recipe, const std::string& type, const WeightOptions& options,
                 const std::string& path);

}  // namespace cllm
