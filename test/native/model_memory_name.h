#pragma once

#include <string>

#include "llama.h"

namespace cllm {

/// The kind of memory that llama.cpp creates for contexts of the model: plain, iswa, hybrid ... or "none". Throws
/// std::runtime_error where it creates no context.
std::string memory_class_of(llama_model* model);

}  // namespace cllm
