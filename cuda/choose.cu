// `choose`: rows of logits to one token each, in one launch.
//
// A row is read by S blocks, each of which takes an equal part; S is chosen so that few rows still fill the GPU. Every
// block finds the best key of its part and merges it into the row's, and the block that comes last writes the token.
#include <cstdint>

#include "cuda/check.cuh"
#include "cuda/kernels.cuh"

namespace cllm::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAll = 0xffffffffu;
// Eight blocks for each of 132 multiprocessors (H100); a part is never smaller than 4096 logits.
constexpr int64_t kBlocks = 1056;
constexpr int64_t kSmallestPart = 4096;
constexpr int kUnroll = 4;

/// A row's merged key and how many of its blocks have merged.
struct RowScratch {
  unsigned long long key;
  unsigned long long blocks;
};

int64_t splits_of(int64_t rows, int64_t vocab) {
  int64_t splits = kBlocks / (rows < 1 ? 1 : rows);
  if (splits > vocab / kSmallestPart) splits = vocab / kSmallestPart;
  return splits < 1 ? 1 : splits;
}

// Larger is better: the float's order in the upper half, in the lower half the id, complemented, so that among equals
// the lowest id is largest. Every real logit's key is above that of NaN, whatever its id.
__device__ inline unsigned long long key_of(float logit, int64_t id) {
  unsigned order = 0;  // NaN
  if (logit == logit) {
    const unsigned bits = __float_as_uint(logit == 0.0f ? 0.0f : logit);  // -0 is +0
    order = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;       // -inf becomes 0x007fffff, above NaN
  }
  return (static_cast<unsigned long long>(order) << 32) | ~static_cast<unsigned>(id);
}

__device__ inline unsigned long long larger(unsigned long long a, unsigned long long b) { return a > b ? a : b; }

/// Block (s, r): part s of row r. A thread strides over the part, four logits at a time where they are aligned. Warps
/// reduce by shuffles, the first warp reduces the warps.
__global__ void __launch_bounds__(kThreads)
    choose_kernel(const float* __restrict__ logits, int64_t vocab, int64_t stride, Token* __restrict__ choices,
                  RowScratch* __restrict__ scratch) {
  CLLM_SHARED(unsigned long long, warps, kWarps);
  const int64_t row = blockIdx.y;
  const int64_t splits = gridDim.x;
  const int64_t begin = vocab * blockIdx.x / splits;
  const int64_t end = vocab * (blockIdx.x + 1) / splits;
  const float* at = logits + row * stride;
  const int thread = static_cast<int>(threadIdx.x);

  // Up to three logits before the first 16-byte boundary, and what is left at the end, go one by one.
  int64_t aligned = begin + ((16 - (reinterpret_cast<uintptr_t>(at + begin) & 15)) & 15) / 4;
  if (aligned > end) aligned = end;
  const int64_t vectors = (end - aligned) / 4;
  const int64_t rest = aligned + vectors * 4;

  unsigned long long best = 0;
  if (begin + thread < aligned) best = larger(best, key_of(at[begin + thread], begin + thread));
  if (rest + thread < end) best = larger(best, key_of(at[rest + thread], rest + thread));
  const float4* vector = reinterpret_cast<const float4*>(at + aligned);
  const auto take = [&](const float4& four, int64_t i) {
    const int64_t id = aligned + i * 4;
    best = larger(best, key_of(four.x, id));
    best = larger(best, key_of(four.y, id + 1));
    best = larger(best, key_of(four.z, id + 2));
    best = larger(best, key_of(four.w, id + 3));
  };
  int64_t i = thread;
  for (; i + (kUnroll - 1) * kThreads < vectors; i += kUnroll * kThreads) {
    float4 four[kUnroll];
    for (int u = 0; u < kUnroll; u++) four[u] = vector[i + u * kThreads];  // all loads before the first use
    for (int u = 0; u < kUnroll; u++) take(four[u], i + u * kThreads);
  }
  for (; i < vectors; i += kThreads) take(vector[i], i);

  for (int offset = 16; offset > 0; offset /= 2) best = larger(best, __shfl_xor_sync(kAll, best, offset));
  if (thread % 32 == 0) warps[thread / 32] = best;
  __syncthreads();
  if (thread != 0) return;
  for (int w = 1; w < kWarps; w++) best = larger(best, warps[w]);

  if (splits > 1) {
    atomicMax(&scratch[row].key, best);
    __threadfence();  // the key before the count: who counts last sees all keys
    if (atomicAdd(&scratch[row].blocks, 1ull) + 1 != static_cast<unsigned long long>(splits)) return;
    __threadfence();
    best = atomicExch(&scratch[row].key, 0ull);  // and left zeroed for the next call
    atomicExch(&scratch[row].blocks, 0ull);
  }
  // Nothing but NaN: the ids compete among themselves and 0 wins.
  choices[row] = static_cast<Token>(~static_cast<unsigned>(best));
}

}  // namespace

size_t choose_scratch_bytes(int64_t rows, int64_t /*vocab*/) { return static_cast<size_t>(rows) * sizeof(RowScratch); }

cudaError_t choose(const ChooseArgs& args, void* scratch, cudaStream_t stream) {
  if (args.sampling != nullptr) return cudaErrorNotSupported;
  if (args.rows == 0) return cudaSuccess;
  // A grid has at most 65535 blocks in y.
  if (args.rows > 65535) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(splits_of(args.rows, args.vocab)), static_cast<unsigned>(args.rows));
  CLLM_LAUNCH(choose_kernel, grid, dim3(kThreads), stream, args.logits, args.vocab, args.stride, args.choices,
              static_cast<RowScratch*>(scratch));
  return launched();
}

}  // namespace cllm::cuda
