#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace cllm::cuda {

/// Copies `bytes` bytes in units of type Unit, by all threads of the block. Returns false, and copies nothing, if an
/// address or the size is no multiple of the unit.
template <typename Unit>
__device__ inline bool copy_as(char* to, const char* from, int64_t bytes) {
  const uintptr_t bits =
      reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) | static_cast<uintptr_t>(bytes);
  if (bits % sizeof(Unit) != 0) return false;
  for (int64_t i = threadIdx.x; i < bytes / static_cast<int64_t>(sizeof(Unit)); i += blockDim.x) {
    reinterpret_cast<Unit*>(to)[i] = reinterpret_cast<const Unit*>(from)[i];
  }
  return true;
}

/// Copies `bytes` bytes by all threads of the block, in the largest units that fit. Quantised rows need not be
/// multiples of 16 bytes: a block of Q8_0 has 34 bytes.
__device__ inline void copy_by_all(char* to, const char* from, int64_t bytes) {
  if (copy_as<uint4>(to, from, bytes)) return;
  if (copy_as<uint32_t>(to, from, bytes)) return;
  if (copy_as<uint16_t>(to, from, bytes)) return;
  copy_as<char>(to, from, bytes);
}

}  // namespace cllm::cuda
