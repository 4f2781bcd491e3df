#pragma once

#include "ggml.h"

namespace ggml::cpu {
class tensor_traits;
}

namespace cllm {

/// Our attention (native/products/attention.h) for an operation GGML_OP_FLASH_ATTN_EXT that it can compute, else null.
/// It runs in layers whose query weights are packed. ggml's own attention takes half of a block's time where the
/// model is small.
ggml::cpu::tensor_traits* packed_attention(const ggml_tensor* op);

}  // namespace cllm
