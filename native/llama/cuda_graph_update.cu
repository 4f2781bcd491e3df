// ggml-cuda keeps one executable CUDA graph per cgraph and updates it in place when the shape of a pass changes
// (cudaGraphExecUpdate). That update does not carry over the cluster dimensions of kernels: a cuBLAS kernel that was
// captured for another number of columns then runs in the cluster shape of the one before it, which on Hopper ends in
// an illegal instruction (the same was found in https://github.com/ml-explore/mlx/pull/2813). So the linker puts these
// two functions in place of CUDA's (--wrap, CMakeLists.txt): an update "fails" and ggml instantiates the graph anew.
#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>

extern "C" {

cudaError_t __real_cudaGraphInstantiate(cudaGraphExec_t* instance, cudaGraph_t graph, unsigned long long flags);
cudaError_t __real_cudaGraphExecUpdate(cudaGraphExec_t instance, cudaGraph_t graph,
                                       cudaGraphExecUpdateResultInfo* result);

namespace {

// CLLM_CUDA_GRAPH_UPDATE=in-place leaves ggml's own way, to measure what it does.
bool updates_in_place() {
  static const bool in_place = [] {
    const char* value = std::getenv("CLLM_CUDA_GRAPH_UPDATE");
    return value != nullptr && std::strcmp(value, "in-place") == 0;
  }();
  return in_place;
}

// The graph that this thread has instantiated last. ggml asks for an update right after it has instantiated a graph:
// that one has nothing to update.
thread_local cudaGraphExec_t fresh_instance = nullptr;
thread_local cudaGraph_t fresh_graph = nullptr;

}  // namespace

cudaError_t __wrap_cudaGraphInstantiate(cudaGraphExec_t* instance, cudaGraph_t graph, unsigned long long flags) {
  const cudaError_t error = __real_cudaGraphInstantiate(instance, graph, flags);
  fresh_instance = error == cudaSuccess ? *instance : nullptr;
  fresh_graph = graph;
  return error;
}

cudaError_t __wrap_cudaGraphExecUpdate(cudaGraphExec_t instance, cudaGraph_t graph,
                                       cudaGraphExecUpdateResultInfo* result) {
  if (updates_in_place()) return __real_cudaGraphExecUpdate(instance, graph, result);
  const bool fresh = instance == fresh_instance && graph == fresh_graph;
  fresh_instance = nullptr;
  return fresh ? cudaSuccess : cudaErrorGraphExecUpdateFailure;
}

}  // extern "C"
