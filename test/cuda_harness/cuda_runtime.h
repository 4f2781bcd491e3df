#pragma once

// The part of CUDA that cuda/kernels/*.cu use, emulated on the CPU for tests: the unchanged sources compile as C++20
// with this header. Every CUDA thread is a fiber. Blocks and threads run in an order shuffled by a seed
// (CLLM_HARNESS_SEED) and take turns at every barrier, shuffle, vote, atomic and fence. A missing barrier is found,
// because with some seed a thread runs ahead of all others, or stays behind them. Shared memory is poisoned before a
// block begins. The harness reports a barrier or warp operation that not all threads reach.
//
// It cannot show reordered memory accesses (a missing __threadfence), coalescing or timing.
//
// Streams, memory and graphs are emulated too (runtime.cpp). Work runs when it is enqueued, unless its stream is being
// captured. Memory of the device has guards around it, which every cudaStreamSynchronize() checks.

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

// --- the runtime's functions

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorStreamCaptureUnsupported = 900,
};
using cudaStream_t = struct CudaStream*;
using cudaGraph_t = struct CudaGraph*;
using cudaGraphExec_t = struct CudaGraphExec*;
using cudaGraphNode_t = struct CudaGraphNode*;
using cudaGraphConditionalHandle = unsigned long long;
struct cudaGraphEdgeData;

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
enum cudaGraphNodeType { cudaGraphNodeTypeConditional = 13 };
enum cudaGraphConditionalNodeType { cudaGraphCondTypeWhile = 1 };
constexpr unsigned cudaStreamNonBlocking = 1, cudaHostAllocMapped = 2, cudaHostAllocPortable = 1;
constexpr unsigned cudaGraphCondAssignDefault = 1;
struct cudaConditionalNodeParams {
  cudaGraphConditionalHandle handle;
  cudaGraphConditionalNodeType type;
  unsigned size;
  cudaGraph_t* phGraph_out;
};
struct cudaGraphNodeParams {
  cudaGraphNodeType type;
  cudaConditionalNodeParams conditional;
};

cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream, cudaGraph_t graph, const cudaGraphNode_t* dependencies,
                                          const cudaGraphEdgeData* edges, size_t count, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned flags);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle* handle, cudaGraph_t graph,
                                             unsigned default_value, unsigned flags);
cudaError_t cudaGraphAddNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* dependencies,
                             const cudaGraphEdgeData* edges, size_t count, cudaGraphNodeParams* params);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* instance, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance);
cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream);
/// Called by a kernel.
void cudaGraphSetConditional(cudaGraphConditionalHandle handle, unsigned value);

// --- kernels

namespace cuda_harness {

/// Runs a kernel to its end. `body` is called once per thread.
void launch(dim3 grid, dim3 block, const std::function<void()>& body);
/// Runs the work now, or adds it to the graph that the stream is captured into.
void enqueue(cudaStream_t stream, std::function<void()> work);
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

// As in CUDA, the arguments are copied when the kernel is enqueued.
#define CLLM_LAUNCH(kernel, grid, block, stream, ...) \
  cuda_harness::enqueue(stream, [=, g = grid, b = block] { cuda_harness::launch(g, b, [&] { kernel(__VA_ARGS__); }); })
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
