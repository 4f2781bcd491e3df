// `roll_forward` on a GPU: copies the accepted KV rows of a winning candidate from its scratch cells to the lane's own
// cells, in all layers.
#include <cstdint>

#include "cuda/kernels/check.cuh"
#include "cuda/kernels/copy.cuh"
#include "cuda/kernels/kernels.cuh"

namespace cllm::cuda {

namespace {

constexpr int kThreads = 128;

template <typename Element>
__device__ inline void copy_column(const KvTensor& tensor, int64_t kv_size, int64_t stream, int64_t from, int64_t to) {
  for (int64_t e = threadIdx.x; e < tensor.width; e += blockDim.x) {
    Element* cells = reinterpret_cast<Element*>(tensor.data) + (stream * tensor.width + e) * kv_size;
    cells[to] = cells[from];
  }
}

/// Block (j - 1, tensor, lane) owns one row of one K or V tensor. Most blocks find nothing to do and end at once.
__global__ void __launch_bounds__(kThreads) roll_forward_kernel(RollForwardArgs args) {
  const int64_t b = blockIdx.z;
  const int64_t j = static_cast<int64_t>(blockIdx.x) + 1;
  const Verdict verdict = args.verdicts[b];
  if (verdict.winner == 0 || j >= verdict.emitted) return;
  const KvTensor tensor = args.tensors[blockIdx.y];
  const int64_t stream = args.first_stream + b;
  const int64_t from = args.scratch.first + static_cast<int64_t>(verdict.winner - 1) * args.shape.block + j;
  const int64_t to = verdict.position + j;
  if (tensor.row_bytes == 0) {
    if (tensor.element_bytes == 2) {
      copy_column<uint16_t>(tensor, args.kv_size, stream, from, to);
    } else {
      copy_column<uint32_t>(tensor, args.kv_size, stream, from, to);
    }
    return;
  }
  char* base = tensor.data + stream * args.kv_size * tensor.row_bytes;
  char* target = base + to * tensor.row_bytes;
  const char* source = base + from * tensor.row_bytes;
  copy_by_all(target, source, tensor.row_bytes);
}

}  // namespace

cudaError_t roll_forward(const RollForwardArgs& args, cudaStream_t stream) {
  if (args.shape.block == 1 || args.count == 0) return cudaSuccess;  // a single token has no drafts
  const dim3 grid(static_cast<unsigned>(args.shape.block - 1), static_cast<unsigned>(args.count),
                  static_cast<unsigned>(args.shape.lanes));
  CLLM_LAUNCH(roll_forward_kernel, grid, dim3(kThreads), stream, args);
  return launched();
}

}  // namespace cllm::cuda
