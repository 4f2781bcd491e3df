#pragma once

namespace cllm {

/// Once per process, before a model is loaded: on CPUs with AVX512-BF16, BF16 matrices of models go into a buffer of
/// their own, packed for native/kernels/bf16_product.h. A block of tokens then costs little more than one token,
/// because weights are read once for all of them and no output needs a sum across a register. The memory is that of the
/// weights, but the file is no longer mapped.
void register_bf16_buffer();

}  // namespace cllm
