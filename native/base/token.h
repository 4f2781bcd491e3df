#pragma once

#include <cstdint>

namespace cllm {

/// A token id, 0 <= id < vocabulary size. It has the width of llama_token and does not need llama.h.
using Token = int32_t;

}  // namespace cllm
