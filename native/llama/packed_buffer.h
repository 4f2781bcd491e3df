#pragma once

#include <cstdint>

struct llama_model;

namespace cllm {

/// Once per process, before a model is loaded: matrices of models go into a buffer of their own, packed for our
/// products, where the CPU has what they need: BF16 (native/kernels/bf16_product.h), Q4_0, Q4_1, Q8_0,
/// Q4_K and Q6_K (native/kernels/quantized_product.h). A block of tokens then costs little more than one token, because
/// weights are read once for all of them and no output needs a sum across a register. An output matrix that is tied to
/// the token embeddings gets a packed copy of its own. The memory is that of the weights, but the file is no longer
/// mapped.
void register_packed_buffer();

/// Bytes of the model's weights that are packed, by us or by ggml: in memory, beside what of the file is mapped.
uint64_t packed_weights(const llama_model* model);

}  // namespace cllm
