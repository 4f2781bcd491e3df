#pragma once

// CMakeLists.txt includes this header in llama-context.cpp (-include), so that llama.cpp's source stays unchanged.
//
// A context keeps snapshots of recurrent states (n_rs_seq) only where llm_arch_supports_rs_rollback() admits the
// architecture; elsewhere it sets n_rs_seq to 0 without a word. The graphs of some architectures that llama.cpp v0.5.0
// does not admit write all snapshots: they are built by the same functions as those of admitted ones. Tests hold the
// logits after a rollback to those of undisturbed decoding for each of them.

#include "llama-arch.h"

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
