#pragma once

#include <cuda_runtime.h>

// Kernels are launched only by this macro, so that the same sources also compile as plain C++ for test/cuda_harness,
// which has no <<<>>>.
#ifndef CLLM_LAUNCH
#define CLLM_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
/// Declares an array in the memory that the threads of a block share.
#define CLLM_SHARED(type, name, count) __shared__ type name[count]
#endif

namespace cllm::cuda {

/// The mask of warp operations in which all threads of a warp take part.
constexpr unsigned kAllThreads = 0xffffffffu;

/// The return value of a launcher: whether the launch was accepted. It does not wait for the kernel.
inline cudaError_t launched() { return cudaGetLastError(); }

/// Number of blocks for `count` items, `items_per_block` each, between 1 and `max_blocks` (kernels loop over the rest).
inline unsigned blocks_for(int64_t count, int64_t items_per_block, int64_t max_blocks) {
  const int64_t blocks = (count + items_per_block - 1) / items_per_block;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > max_blocks ? max_blocks : blocks);
}

}  // namespace cllm::cuda
