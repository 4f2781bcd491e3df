#pragma once

#include <string>
#include <vector>

#include "gguf.h"

namespace cllm {

/// What the trainer must know of a model, from its GGUF metadata. It trains dense decoders with RMS norm, rotary
/// positions, grouped attention and SwiGLU, which is what llama, qwen2 and qwen3 have in common.
struct Architecture {
  std::string name;  // llama | qwen2 | qwen3
  int layers = 0;
  int width = 0;     // embedding_length
  int heads = 0;     // query heads, a multiple of kv_heads
  int kv_heads = 0;  // heads of keys and values
  int head_size = 0;
  int hidden = 0;  // feed_forward_length
  int vocab = 0;
  int context = 0;  // trained context, tokens
  float norm_epsilon = 0;
  float rope_base = 0;
  float rope_scale = 1;  // 1 / rope.scaling.factor
  int rope_dims = 0;
  int rope_mode = 0;  // GGML_ROPE_TYPE_*
  bool tied = false;  // the head is token_embd.weight
};

/// The architectures that can be trained, as messages name them.
inline constexpr const char* kTrainable = "llama, qwen2 and qwen3 (dense)";

/// Reads and checks the metadata, and the tensors' names and shapes. A tensor that the trainer does not know is an
/// error, or a part of the model would silently be left out of training. Throws Error CLLM_UNSUPPORTED_MODEL or
/// CLLM_INVALID_MODEL.
Architecture read_architecture(const gguf_context* file);

/// The name "blk.<layer>.<part>".
std::string layer_tensor(int layer, const char* part);

}  // namespace cllm
