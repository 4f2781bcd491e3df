#pragma once

struct ggml_backend;

namespace cllm {

/// The stream (a cudaStream_t) on which a CUDA backend of ggml enqueues its graphs. Exists only in the CUDA binary.
void* cuda_stream_of(ggml_backend* backend);

}  // namespace cllm
