// `keep_state` on a GPU: copies the recurrent state of lanes that have just stopped to the plane that no pass writes.
#include <cstdint>

#include "cuda/kernels/check.cuh"
#include "cuda/kernels/copy.cuh"
#include "cuda/kernels/kernels.cuh"

namespace cllm::cuda {

namespace {

constexpr int kThreads = 256;

/// Block (tensor, lane) owns one state of one layer. Most blocks find nothing to do and end at once.
__global__ void __launch_bounds__(kThreads) keep_state_kernel(KeepStateArgs args) {
  const int32_t b = static_cast<int32_t>(blockIdx.y);
  const Verdict verdict = args.verdicts[b];
  if (!has_stopped(verdict, args.lanes[b], args.shape.block)) return;
  const StateTensor tensor = args.tensors[blockIdx.x];
  const int64_t from = args.states.row(args.shape.block - verdict.emitted, args.first_lane + b);
  const int64_t to = args.states.row(args.states.spare_plane, args.first_lane + b);
  copy_by_all(tensor.data + to * tensor.row_bytes, tensor.data + from * tensor.row_bytes, tensor.row_bytes);
}

}  // namespace

cudaError_t keep_state(const KeepStateArgs& args, cudaStream_t stream) {
  if (args.count == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(args.count), static_cast<unsigned>(args.shape.lanes));
  CLLM_LAUNCH(keep_state_kernel, grid, dim3(kThreads), stream, args);
  return launched();
}

}  // namespace cllm::cuda
