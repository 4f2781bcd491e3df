#pragma once

#include <string>

#include "base/ggml_pointers.h"

namespace cllm {

/// How many threads can be alive at once, at most `wanted`. They are started on trial and joined again. Where the
/// number is less than `wanted`, `refusal` says why.
int startable_threads(int wanted, std::string& refusal);

/// Compute threads for a context: without a pool of its own ggml would start and join threads for every single graph.
/// The caller is one of the `threads`. As many new threads are started on trial, so the decode thread can start too.
/// Throws Error CLLM_OUT_OF_MEMORY where the system refuses one.
ThreadpoolPointer make_threadpool(int threads);

}  // namespace cllm
