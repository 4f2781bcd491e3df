// Counts the calls of cudaFree, which the linker sends here (--wrap, CMakeLists.txt).
#include <cuda_runtime.h>

#include <atomic>

#include "llama/cuda_stream.h"

namespace {

std::atomic<uint64_t> frees{0};

}  // namespace

extern "C" {

cudaError_t __real_cudaFree(void* memory);

cudaError_t __wrap_cudaFree(void* memory) {
  const cudaError_t error = __real_cudaFree(memory);
  frees.fetch_add(1, std::memory_order_relaxed);
  return error;
}

}  // extern "C"

uint64_t cllm::cuda_frees() { return frees.load(std::memory_order_relaxed); }
