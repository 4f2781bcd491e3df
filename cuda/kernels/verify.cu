// `verify` on a GPU, alone: compares the drafts of every lane with the choices.
#include "cuda/kernels/kernels.cuh"
#include "cuda/kernels/verify.cuh"

namespace cllm::cuda {

namespace {

/// Block b is one warp and owns lane b.
__global__ void __launch_bounds__(kWarp) verify_kernel(VerifyArgs args) {
  const int32_t b = static_cast<int32_t>(blockIdx.x);
  const Verdict verdict = verify_by_warp(args, b, static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) args.verdicts[b] = verdict;
}

}  // namespace

cudaError_t verify(const VerifyArgs& args, cudaStream_t stream) {
  CLLM_LAUNCH(verify_kernel, dim3(static_cast<unsigned>(args.shape.lanes)), dim3(kWarp), stream, args);
  return launched();
}

}  // namespace cllm::cuda
