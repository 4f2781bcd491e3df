// `bias` on a GPU, and `sample`, the part of `choose` for the rows of lanes with a temperature. `choose` has already
// made their greedy choices.
//
// Each row has one block of threads. Top-k and top-p keep a prefix of the ordered tokens (native/kernels/sampling.h),
// so the cut is one 64-bit key. Its digits are found from the highest on: a histogram of the tokens that share the
// digits found so far gives the next digit. Counts and weights are integers, whose sums do not depend on the order of
// threads.
#include <cmath>
#include <cstdint>

#include "cuda/kernels/check.cuh"
#include "cuda/kernels/kernels.cuh"

namespace cllm::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kDigits = 256;  // possible values of a digit of 8 bits; each thread owns one
static_assert(kDigits == kThreads);

struct Row {
  const float* logits;
  int64_t vocab;
  float largest;
};

/// The sum of the weights of all tokens whose key is at least `lowest`; every thread of the block gets it.
__device__ __forceinline__ unsigned long long sum_from(const Row& row, unsigned long long lowest,
                                                       unsigned long long* shared) {
  if (threadIdx.x == 0) *shared = 0;
  __syncthreads();
  unsigned long long sum = 0;
  for (int64_t i = threadIdx.x; i < row.vocab; i += kThreads) {
    const float logit = row.logits[i];
    if (order_key(logit, static_cast<uint32_t>(i)) >= lowest) sum += weight_of(logit, row.largest);
  }
  atomicAdd(shared, sum);
  __syncthreads();
  return *shared;
}

/// The largest key such that the tokens with this key or a larger one reach `wanted`, by their weights or, without
/// `weights`, by their number. 1 <= wanted <= the total of all tokens.
__device__ __forceinline__ unsigned long long select(const Row& row, bool weights, unsigned long long wanted,
                                                     unsigned long long* histogram, unsigned long long* found) {
  unsigned long long prefix = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    histogram[threadIdx.x] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < row.vocab; i += kThreads) {
      const float logit = row.logits[i];
      const unsigned long long key = order_key(logit, static_cast<uint32_t>(i));
      if (shift < 56 && key >> (shift + 8) != prefix) continue;
      const unsigned long long amount = weights ? weight_of(logit, row.largest) : 1;
      if (amount != 0) atomicAdd(&histogram[(key >> shift) & 255], amount);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      // Larger digits are subtracted from `wanted`, which only this thread uses.
      int digit = kDigits - 1;
      while (digit > 0 && histogram[digit] < wanted) wanted -= histogram[digit--];
      *found = static_cast<unsigned long long>(digit);
    }
    __syncthreads();
    prefix = prefix << 8 | *found;
  }
  return prefix;
}

/// Block r owns row r.
__global__ void __launch_bounds__(kThreads)
    sample_kernel(const float* __restrict__ logits, int64_t vocab, int64_t stride, Token* __restrict__ choices,
                  const Sampling* __restrict__ samplings, int32_t rows_per_lane, const LaneState* __restrict__ lanes,
                  int32_t block) {
  CLLM_SHARED(unsigned long long, histogram, kDigits);
  CLLM_SHARED(unsigned long long, found, 1);
  CLLM_SHARED(unsigned long long, total, 1);
  CLLM_SHARED(unsigned long long, warps, kWarps);
  const int32_t r = static_cast<int32_t>(blockIdx.x);  // a division in 64 bits would be a call, and spill registers
  const Sampling sampling = samplings[r / rows_per_lane];
  if (!(sampling.temperature > 0)) return;
  Row row{logits + static_cast<int64_t>(r) * stride, vocab, 0};
  row.largest = row.logits[choices[r]];
  if (!(row.largest > -INFINITY)) return;

  unsigned long long lowest = 0;
  if (sampling.top_k > 0 && sampling.top_k < vocab) {
    lowest = select(row, false, static_cast<unsigned long long>(sampling.top_k), histogram, found);
  }
  if (sampling.top_p < 1) {
    const unsigned long long wanted = wanted_weight(sum_from(row, lowest, total), sampling.top_p);
    lowest = select(row, true, wanted, histogram, found);  // within top-k, whose tokens alone reach `wanted`
  }
  const float min_logit = sampling.min_p > 0 ? row.largest + log_of(sampling.min_p) : -INFINITY;
  const float inverse = 1.0f / sampling.temperature;
  const auto position = static_cast<uint32_t>(lanes[r / rows_per_lane].position + 1 + r % block);

  unsigned long long best = 0;
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) {
    const float logit = row.logits[i];
    const auto id = static_cast<uint32_t>(i);
    if (!(logit >= min_logit) || order_key(logit, id) < lowest) continue;
    const Philox noise = philox(sampling.seed, noise_counter(id), position);
    const float score = score_of(logit, row.largest, inverse, word_of(noise, noise_word(id)));
    const unsigned long long key = order_key(score, id);
    best = key > best ? key : best;
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    const unsigned long long other = __shfl_xor_sync(kAllThreads, best, offset);
    best = other > best ? other : best;
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kWarps; w++) best = warps[w] > best ? warps[w] : best;
  choices[r] = static_cast<Token>(~static_cast<unsigned>(best));
}

/// Thread (r, i) owns logit i of row r and further ones in strides of the whole grid row.
__global__ void __launch_bounds__(kThreads)
    bias_kernel(float* __restrict__ logits, int64_t vocab, int64_t stride, int64_t rows_per_lane,
                const float* const* __restrict__ biases) {
  const int64_t r = blockIdx.x;
  const float* lane = biases[r / rows_per_lane];
  if (lane == nullptr) return;
  const int64_t step = static_cast<int64_t>(gridDim.y) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x; i < vocab; i += step) {
    logits[r * stride + i] += lane[i];
  }
}

}  // namespace

cudaError_t sample(const ChooseArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return cudaSuccess;
  CLLM_LAUNCH(sample_kernel, dim3(static_cast<unsigned>(args.rows)), dim3(kThreads), stream, args.logits, args.vocab,
              args.stride, args.choices, args.sampling, static_cast<int32_t>(args.rows_per_lane), args.lanes,
              args.block);
  return launched();
}

cudaError_t bias(const BiasArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(args.rows), blocks_for(args.vocab, kThreads * 8, 64));
  CLLM_LAUNCH(bias_kernel, grid, dim3(kThreads), stream, args.logits, args.vocab, args.stride, args.rows_per_lane,
              args.biases);
  return launched();
}

}  // namespace cllm::cuda
