#include "llama/model_memory.h"

#include "base/limits.h"
#include "llama-context.h"
#include "llama-memory.h"
#include "llama-model.h"
#include "llama/rollback_gate.h"

namespace cllm {

ModelMemory memory_of(const llama_model* model) {
  const llama_hparams& hparams = model->hparams;
  ModelMemory memory;
  const bool recurrent = llm_arch_is_recurrent(model->arch) || llm_arch_is_hybrid(model->arch);
  // A pass in several parts leaves snapshots of its last part only, so a block has one part.
  if (recurrent) memory.max_rollback = cllm_keeps_snapshots(model->arch) ? kMaxPartTokens - 1 : 0;
  memory.window = hparams.swa_type == LLAMA_SWA_TYPE_NONE ? 0 : static_cast<int>(hparams.n_swa);
  // In Falcon-H1 every layer has both attention and a state.
  const bool both = model->arch == LLM_ARCH_FALCON_H1;
  // Their memories are of kinds that WindowRows does not know, so they keep the whole context.
  const bool whole = model->arch == LLM_ARCH_DEEPSEEK4 || model->arch == LLM_ARCH_DOTS3NOTE;
  for (uint32_t layer = 0; layer < hparams.n_layer(); layer++) {
    if (recurrent && (both || hparams.is_recr(layer))) {
      uint64_t elements = uint64_t{hparams.n_embd_r()} + hparams.n_embd_s();
      if (hparams.ple_conv_state() > 0 && hparams.is_ple(layer)) elements += hparams.ple_conv_state();
      memory.state_bytes += elements * sizeof(float);
      if (!both) continue;
    }
    if (llm_arch_is_recurrent(model->arch) || !hparams.has_kv(layer)) continue;
    const uint64_t v_elements = hparams.is_mla() ? 0 : hparams.n_embd_v_gqa(layer);
    const uint64_t bytes = 2 * (uint64_t{hparams.n_embd_k_gqa(layer)} + v_elements);
    const bool windowed = memory.window > 0 && hparams.is_swa(layer) && !whole;
    (windowed ? memory.windowed_kv_bytes_per_token : memory.kv_bytes_per_token) += bytes;
  }
  return memory;
}

uint64_t memory_bytes(const llama_context* context) {
  const llama_memory_i* memory = context->get_memory();
  if (memory == nullptr) return 0;
  uint64_t bytes = 0;
  for (const auto& [type, size] : memory->memory_breakdown()) bytes += size;
  return bytes;
}

}  // namespace cllm
