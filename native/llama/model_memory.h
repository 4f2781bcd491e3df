#pragma once

#include <cstdint>

struct llama_context;
struct llama_model;

namespace cllm {

/// What a context remembers of a lane's text, and how much memory that takes.
struct ModelMemory {
  /// Bytes that a token takes in the KV caches of one lane with F16 rows: in layers that see the whole context, and in
  /// layers that see a window of it.
  uint64_t kv_bytes_per_token = 0;
  uint64_t windowed_kv_bytes_per_token = 0;
  /// Tokens of the window, or 0 where all layers see the whole context.
  int window = 0;
  /// Bytes of the recurrent layers' state, in F32, for one lane.
  uint64_t state_bytes = 0;
  /// Tokens that a lane can go back from the end of its last pass, at most. Negative: any number, as all layers have
  /// attention. 0: none, as llama.cpp keeps no snapshots of the state.
  int max_rollback = -1;
};
ModelMemory memory_of(const llama_model* model);

/// Bytes of a context's KV caches and recurrent states.
uint64_t memory_bytes(const llama_context* context);

}  // namespace cllm
