#pragma once

// The part of CUDA that cuda/kernels/*.cu use, emulated on the CPU for tests: the unchanged sources compile as C++20
// with this header. Every CUDA thread is a fiber. Blocks and threads run in an order shuffled by a seed
// (CLLM_HARNESS_SEED) and take turns at every barrier, shuffle, vote, atomic and fence. A missing barrier is found,
// because with some seed a thread runs ahead of all others, or stays behind them. Shared memory is poisoned before a
// block begins. The harness reports a barrier or warp operation that not all threads reach.
//
// It cannot show reordered memory accesses (a missing __threadfence), coalescing or timing.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __forceinline__ inline

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

/// Values of the fiber that is running.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorNotSupported = 801 };
using cudaStream_t = void*;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

namespace cuda_harness {

/// Runs a kernel to its end. `body` is called once per thread.
void launch(dim3 grid, dim3 block, const std::function<void()>& body);
/// The block's shared array that is declared at `place`; all its threads get the same one.
void* shared(const void* place, size_t bytes);
void sync_threads();
/// Lets other fibers run.
void yield();
/// Waits until all threads of the warp have reached the operation of this name. Returns the values that the threads
/// passed, one per thread.
const uint64_t* warp_meet(const char* operation, unsigned mask, uint64_t value);
unsigned warp_lane();

}  // namespace cuda_harness

#define CLLM_LAUNCH(kernel, grid, block, stream, ...) \
  (static_cast<void>(stream), cuda_harness::launch(grid, block, [&] { kernel(__VA_ARGS__); }))
#define CLLM_SHARED(type, name, count) \
  static const char name##_place = 0;  \
  type* const name = static_cast<type*>(cuda_harness::shared(&name##_place, sizeof(type) * (count)))

inline void __syncthreads() { cuda_harness::sync_threads(); }
inline void __threadfence() { cuda_harness::yield(); }

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const uint64_t* all = cuda_harness::warp_meet("shuffle", mask, bits);
  std::memcpy(&value, &all[cuda_harness::warp_lane() ^ static_cast<unsigned>(lanes)], sizeof(T));
  return value;
}
inline unsigned __ballot_sync(unsigned mask, bool vote) {
  const uint64_t* all = cuda_harness::warp_meet("ballot", mask, vote ? 1 : 0);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; lane++) votes |= all[lane] != 0 ? 1u << lane : 0u;
  return votes;
}
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Only one fiber runs at a time, so these functions are atomic. Other fibers may run before and after them.
template <typename T>
T atomicMax(T* at, T value) {
  cuda_harness::yield();
  const T old = *at;
  if (value > old) *at = value;
  cuda_harness::yield();
  return old;
}
template <typename T>
T atomicAdd(T* at, T value) {
  cuda_harness::yield();
  const T old = *at;
  *at = old + value;
  cuda_harness::yield();
  return old;
}
template <typename T>
T atomicExch(T* at, T value) {
  cuda_harness::yield();
  const T old = *at;
  *at = value;
  cuda_harness::yield();
  return old;
}
