#pragma once

#include <cstdint>

namespace cllm {

/// A token id, 0 <= id < vocabulary size. Same width as llama_token, without needing llama.h.
using Token = int32_t;

}  // namespace cllm
