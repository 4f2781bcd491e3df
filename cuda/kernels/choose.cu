// `choose` on a GPU: chooses the token of every row of logits in one launch.
//
// A row is cut into S equal parts, one for each of S blocks; S is chosen so that few rows still fill the GPU. Every
// block finds the best key of its part and merges it into the row's key, and the block that finishes last writes the
// token.
#include <cmath>
#include <cstdint>

#include "cuda/kernels/check.cuh"
#include "cuda/kernels/kernels.cuh"

namespace cllm::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kUnroll = 2;
// Eight blocks for each of 132 multiprocessors (H100).
constexpr int64_t kBlocks = 132 * 8;
// Logits that a block reads in one round, in 16-byte loads that are all in flight together. Smaller parts gain nothing.
constexpr int64_t kPart = 4 * kUnroll * kThreads;

/// A row's merged key and the number of blocks that have merged theirs.
struct RowScratch {
  unsigned long long key;
  unsigned long long blocks;
};

int64_t splits_of(int64_t rows, int64_t vocab) {
  int64_t splits = kBlocks / (rows < 1 ? 1 : rows);
  const int64_t parts = (vocab + kPart - 1) / kPart;
  if (splits > parts) splits = parts;
  return splits < 1 ? 1 : splits;
}

__device__ inline unsigned long long larger(unsigned long long a, unsigned long long b) { return a > b ? a : b; }

/// Merges a part's key `best` into its row's. Returns false unless this block is the last of the row, whose `best`
/// becomes the key of the whole row.
__device__ inline bool merge_part(RowScratch* scratch, int64_t row, int64_t splits, unsigned long long& best) {
  atomicMax(&scratch[row].key, best);
  __threadfence();  // the key is merged before it is counted, so the block that counts last sees all keys
  if (atomicAdd(&scratch[row].blocks, 1ull) + 1 != static_cast<unsigned long long>(splits)) return false;
  __threadfence();
  best = atomicExch(&scratch[row].key, 0ull);  // reading also resets the key for the next call
  atomicExch(&scratch[row].blocks, 0ull);
  return true;
}

/// Block (r, s) owns part s of row r. A thread strides over the part, four logits at a time where they are aligned.
/// Each warp reduces its keys by shuffles, and thread 0 reduces those of the warps.
__global__ void __launch_bounds__(kThreads)
    choose_kernel(const float* __restrict__ logits, int64_t vocab, int64_t stride, Token* __restrict__ choices,
                  RowScratch* __restrict__ scratch) {
  CLLM_SHARED(unsigned long long, warps, kWarps);
  const int64_t row = blockIdx.x;
  const int64_t splits = gridDim.y;
  // Parts begin at multiples of four logits, so that an aligned row has aligned parts.
  const int64_t fours = (vocab + 3) / 4;
  const int64_t begin = fours * blockIdx.y / splits * 4;
  int64_t end = fours * (blockIdx.y + 1) / splits * 4;
  if (end > vocab) end = vocab;
  const float* part = logits + row * stride + begin;
  const int size = static_cast<int>(end - begin);
  const unsigned first_id = static_cast<unsigned>(begin);  // token id of part[0]
  const int thread = static_cast<int>(threadIdx.x);

  // Up to three logits before the first 16-byte boundary, and up to three behind the last full vector, are read singly.
  int head = static_cast<int>((16 - (reinterpret_cast<uintptr_t>(part) & 15)) & 15) / 4;
  if (head > size) head = size;
  const int vectors = (size - head) / 4;
  const int rest = head + vectors * 4;

  // All loads of a round come before the first use of any; the first round includes the loads of both ends. So a block
  // whose part takes one round waits for memory once. A thread without a logit to read uses a NaN instead.
  const float none = __uint_as_float(0x7fffffffu);
  const float first = thread < head ? part[thread] : none;
  const float last = rest + thread < size ? part[rest + thread] : none;
  const float4* vector = reinterpret_cast<const float4*>(part + head);
  float highest = none;  // largest logit in the thread's vectors
  int place = 0;         // its index in the part; among equals the first
  for (int i = thread; i < vectors; i += kUnroll * kThreads) {
    float4 four[kUnroll];
    for (int u = 0; u < kUnroll; u++) {
      const int at = i + u * kThreads;
      four[u] = at < vectors ? vector[at] : float4{none, none, none, none};
    }
    for (int u = 0; u < kUnroll; u++) {
      const auto& [x, y, z, w] = four[u];
      const float top = fmaxf(fmaxf(x, y), fmaxf(z, w));  // NaN only where all four are NaN
      if (!(top > highest) && highest == highest) continue;
      highest = top;
      place = head + (i + u * kThreads) * 4 + (x == top ? 0 : y == top ? 1 : z == top ? 2 : 3);
    }
  }
  unsigned long long best = order_key(highest, first_id + static_cast<unsigned>(place));
  best = larger(best, order_key(first, first_id + static_cast<unsigned>(thread)));
  best = larger(best, order_key(last, first_id + static_cast<unsigned>(rest + thread)));

  for (int offset = 16; offset > 0; offset /= 2) best = larger(best, __shfl_xor_sync(kAllThreads, best, offset));
  if (thread % 32 == 0) warps[thread / 32] = best;
  __syncthreads();
  if (thread != 0) return;
  for (int w = 1; w < kWarps; w++) best = larger(best, warps[w]);

  if (splits > 1 && !merge_part(scratch, row, splits, best)) return;
  choices[row] = static_cast<Token>(~static_cast<unsigned>(best));
}

}  // namespace

size_t choose_scratch_bytes(int64_t rows, int64_t /*vocab*/) { return static_cast<size_t>(rows) * sizeof(RowScratch); }

cudaError_t choose(const ChooseArgs& args, void* scratch, cudaStream_t stream) {
  if (args.rows == 0) return cudaSuccess;
  if (args.rows > INT32_MAX) return cudaErrorInvalidValue;  // limit of a grid in x; in y it is 65535
  const dim3 grid(static_cast<unsigned>(args.rows), static_cast<unsigned>(splits_of(args.rows, args.vocab)));
  CLLM_LAUNCH(choose_kernel, grid, dim3(kThreads), stream, args.logits, args.vocab, args.stride, args.choices,
              static_cast<RowScratch*>(scratch));
  const cudaError_t error = launched();
  return error != cudaSuccess || args.sampling == nullptr ? error : sample(args, stream);
}

}  // namespace cllm::cuda
