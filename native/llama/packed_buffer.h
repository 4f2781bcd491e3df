#pragma once

#include <cstdint>

#include "base/weight_filter.h"

struct llama_context;
struct llama_model;

namespace cllm {

/// Registers what ggml's CPU backend computes with our products: a buffer type that packs the matrices of models on
/// CPUs that have the instructions for them, and with it attention and delta nets (delta_net.h). The matrices are of
/// types BF16 (native/products/bf16_product.h), Q4_0, Q4_1, Q8_0, Q4_K and Q6_K (native/products/quantized_product.h).
/// Call it once per process, before a model is loaded.
///
/// A block of tokens then costs little more than one token, because weights are read once for all of them and no output
/// needs a sum across a register. An output matrix that is tied to the token embeddings gets a packed copy of its own.
/// Packed weights take as much memory as the weights in the file, which is no longer mapped.
void register_packed_buffer();

/// Whether all attention of the context's passes is ours, and no weights are repacked by ggml. Then a token's results
/// do not depend on the number of tokens in its pass, if they are at least two, nor on that of the threads.
bool rows_are_independent(const llama_context* context);

/// To be called on the thread that computes, before each forward pass: neighbouring products share their rounded
/// activations, and those of a pass that failed before it computed a product are not the next one's.
void begin_pass();

/// Gives the filter those weights of a loaded model that were not packed with it: those on a GPU, and those that have
/// no product of ours. Throws Error CLLM_NOT_SUPPORTED where a buffer gives its weights to nobody.
void filter_unpacked(llama_model* model, WeightFilter& filter);

/// Bytes of the model's weights that are packed, by us or by ggml. They are in memory beside the mapped part of the
/// file.
uint64_t packed_weights(const llama_model* model);

}  // namespace cllm
