#pragma once

#include <cuda_runtime.h>

// One way to launch, so that the very same sources also compile as plain C++ for test/cuda_harness, which has no
// <<<>>>.
#ifndef CLLM_LAUNCH
#define CLLM_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
/// An array in the memory that the threads of a block share.
#define CLLM_SHARED(type, name, count) __shared__ type name[count]
#endif

namespace cllm::cuda {

/// What a launcher returns: whether the launch itself was accepted. Nothing is waited for.
inline cudaError_t launched() { return cudaGetLastError(); }

/// Blocks of `size` threads for `count` items, at least 1, at most `most` (kernels loop over the rest).
inline unsigned blocks_for(int64_t count, int64_t size, int64_t most) {
  const int64_t blocks = (count + size - 1) / size;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > most ? most : blocks);
}

}  // namespace cllm::cuda
