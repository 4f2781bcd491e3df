#pragma once

#include <random>
#include <string>

#include "gguf_parts.h"

namespace cllm::fuzz {

/// Makes one to three edits of structure: it changes values, types and lengths of keys; adds, removes and renames keys;
/// changes type, shape or name of tensors, or removes them; and changes architecture or tokenizer. `what` gets a
/// description of each.
void mutate_structure(Gguf& gguf, std::mt19937_64& random, std::string& what);

}  // namespace cllm::fuzz
