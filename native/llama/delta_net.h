#pragma once

#include "ggml.h"

namespace ggml::cpu {
class tensor_traits;
}

namespace cllm {

/// What computes a gated delta net (GGML_OP_GATED_DELTA_NET) on the CPU, or null where ggml does. The results are
/// ggml's to the bit. States go straight to the cache where state_stores.h says so.
ggml::cpu::tensor_traits* packed_delta_net(const ggml_tensor* op);

}  // namespace cllm
