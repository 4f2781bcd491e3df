// The only use of ggml-cuda's private header: its streams and graphs are not in the public interface.
#include "ggml-backend-impl.h"
#include "ggml-cuda/common.cuh"
#include "llama/cuda_stream.h"

namespace cllm {

void* cuda_stream_of(ggml_backend* backend) {
  return static_cast<ggml_backend_cuda_context*>(backend->context)->stream();
}

void drop_stale_cuda_graphs(ggml_backend* backend, uint64_t& frees) {
  if (frees == cuda_frees()) return;
  frees = cuda_frees();
  auto* context = static_cast<ggml_backend_cuda_context*>(backend->context);
  if (!context->any_cuda_graph_has_instance()) return;
  ggml_backend_synchronize(backend);
  context->cuda_graphs.clear();
}

}  // namespace cllm
