#pragma once

// CMakeLists.txt includes this header in llama-context.cpp (-include), so that llama.cpp's source stays unchanged.
//
// A context keeps snapshots of recurrent states (n_rs_seq) only where llm_arch_supports_rs_rollback() admits the
// architecture; elsewhere it sets n_rs_seq to 0 without a word. The graphs of some architectures that llama.cpp v0.5.0
// does not admit write all snapshots: they are built by the same functions as those of admitted ones. Tests hold the
// logits after a rollback to those of undisturbed decoding for each of them.

#include "llama-arch.h"
#include "llama-cparams.h"
#include "llama-model.h"

static inline bool cllm_keeps_snapshots(const llm_arch& arch) {
  switch (arch) {
    case LLM_ARCH_GRANITE_HYBRID:
    case LLM_ARCH_FALCON_H1:
    case LLM_ARCH_QWEN3NEXT:
    case LLM_ARCH_MAMBA2: return true;
    default: return llm_arch_supports_rs_rollback(arch);
  }
}

#define llm_arch_supports_rs_rollback cllm_keeps_snapshots

// llama.cpp sizes its graphs by the number of the model's tensors and forgets the copies of snapshots, so the context
// of a public model fails with blocks of 32 tokens and more. Each convolution of a layer (there are up to three) has
// two views and a copy for each snapshot. The macro stands in llama_context::graph_max_nodes().
static inline unsigned cllm_snapshot_nodes(const llama_model& model, const llama_cparams& cparams) {
  constexpr unsigned kNodes = 3 * 3;
  return cparams.n_rs_seq == 0 ? 0 : kNodes * (cparams.n_rs_seq + 1) * model.hparams.n_layer();
}

#define n_tensors() n_tensors() + cllm_snapshot_nodes(model, cparams)
