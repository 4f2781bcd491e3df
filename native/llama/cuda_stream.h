#pragma once

struct ggml_backend;

namespace cllm {

/// The stream (a cudaStream_t) on which a CUDA backend of ggml enqueues its graphs. In the CUDA binary alone.
void* cuda_stream_of(ggml_backend* backend);

}  // namespace cllm
