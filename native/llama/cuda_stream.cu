// The only use of ggml-cuda's private header: its streams are not in the public interface.
#include "ggml-backend-impl.h"
#include "ggml-cuda/common.cuh"
#include "llama/cuda_stream.h"

namespace cllm {

void* cuda_stream_of(ggml_backend* backend) {
  return static_cast<ggml_backend_cuda_context*>(backend->context)->stream();
}

}  // namespace cllm
