#ifdef CLLM_CUDA
#include <cstdlib>
#include <string>

#include "ggml-backend.h"
#include "llama-context.h"
#include "llama/cuda_stream.h"

namespace cllm {

CudaGraphs cuda_graphs() {
  const char* value = std::getenv("CLLM_CUDA_GRAPHS");
  const std::string choice = value == nullptr ? "" : value;
  if (choice == "on") return CudaGraphs::kGgml;
  if (choice == "replay") return CudaGraphs::kReplay;
  return choice == "loop" ? CudaGraphs::kLoop : CudaGraphs::kOff;
}

Recorded recorded_by_choice() {
  switch (cuda_graphs()) {
    case CudaGraphs::kReplay: return Recorded::kIteration;
    case CudaGraphs::kLoop: return Recorded::kLoop;
    default: return Recorded::kNothing;
  }
}

void drop_stale_cuda_graphs(llama_context* context, uint64_t& frees) {
  const uint64_t before = frees;
  ggml_backend_sched_t sched = context->get_sched();
  for (int i = 0; i < ggml_backend_sched_get_n_backends(sched); i++) {
    ggml_backend_t backend = ggml_backend_sched_get_backend(sched, i);
    uint64_t seen = before;
    if (std::string(ggml_backend_name(backend)).rfind("CUDA", 0) == 0) drop_stale_cuda_graphs(backend, seen);
    if (seen != before) frees = seen;
  }
}

}  // namespace cllm
#endif
