#pragma once

#include "ggml.h"

namespace ggml::cpu {
class tensor_traits;
}

namespace cllm {

/// Whether we compute a gated delta net (GGML_OP_GATED_DELTA_NET): its inputs are rows of F32.
bool computes_delta_net(const ggml_tensor* op);

/// What computes a gated delta net on the CPU, or null where ggml does. The results are ggml's to the bit. States go
/// straight to the cache where state_stores.h says so.
ggml::cpu::tensor_traits* packed_delta_net(const ggml_tensor* op);

}  // namespace cllm
