#pragma once

#include "base/ggml_pointers.h"

namespace cllm {

/// Compute threads for a context: without a pool of its own ggml would start and join threads for every single graph.
/// The caller is one of the `threads`; as many threads are known to start, the decode thread included. Throws Error
/// CLLM_OUT_OF_MEMORY where the system refuses one.
ThreadpoolPointer make_threadpool(int threads);

}  // namespace cllm
