// `verify` on a GPU, alone: compares the drafts of every lane with the choices.
#include "cuda/kernels/kernels.cuh"
#include "cuda/kernels/verify.cuh"

namespace cllm::cuda {

namespace {

/// Block b is one warp and owns lane b.
__global__ void __launch_bounds__(kWarp) verify_kernel(VerifyArgs args) {
  const int32_t b = static_cast<int32_t>(blockIdx.x);
  const int64_t first = static_cast<int64_t>(b) * args.shape.candidates * args.shape.block;
  const LaneState& lane = args.lanes[b];
  const Token* choices = args.choices + first;
  const uint8_t* table = ends_of(lane, args.end_of_generation);
  const auto ends = [&](int i) { return table != nullptr && table[choices[i]] != 0; };
  const Verdict verdict =
      verify_by_warp(args.shape, lane, args.tokens + first, choices,
                     args.stood + static_cast<int64_t>(b) * args.shape.block, ends, static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) args.verdicts[b] = verdict;
}

}  // namespace

cudaError_t verify(const VerifyArgs& args, cudaStream_t stream) {
  CLLM_LAUNCH(verify_kernel, dim3(static_cast<unsigned>(args.shape.lanes)), dim3(kWarp), stream, args);
  return launched();
}

}  // namespace cllm::cuda
