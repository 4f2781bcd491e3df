#pragma once

#include <cstdint>

#include "kernels/device.h"

struct ggml_backend;
struct llama_context;

// What the CUDA binary needs of CUDA's runtime and of ggml-cuda beyond their public interfaces. Only that binary has
// it.

namespace cllm {

/// The stream (a cudaStream_t) on which a CUDA backend of ggml enqueues its graphs.
void* cuda_stream_of(ggml_backend* backend);

/// Calls of cudaFree in this process so far. A CUDA graph that was made before the latest one may use memory that is
/// gone: ggml's pool keeps the buffers that graphs use, but frees them when memory runs out.
uint64_t cuda_frees();

/// Drops the CUDA graphs that ggml has captured on the backend, unless cuda_frees() is still `frees`, which it updates.
void drop_stale_cuda_graphs(ggml_backend* backend, uint64_t& frees);
/// The same on all CUDA backends of a context. Call it before llama_decode.
void drop_stale_cuda_graphs(llama_context* context, uint64_t& frees);

/// How CUDA graphs are used, as CLLM_CUDA_GRAPHS says: `off` (default), `on` (ggml captures each pass), `replay` (an
/// iteration is recorded) or `loop` (the loop of a burst is).
enum class CudaGraphs { kOff, kGgml, kReplay, kLoop };
CudaGraphs cuda_graphs();
Recorded recorded_by_choice();

}  // namespace cllm
