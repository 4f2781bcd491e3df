// `roll_forward` on a GPU: copies the accepted KV rows of a winning candidate from its scratch cells to the lane's own
// cells, in all layers.
#include <cstdint>

#include "cuda/kernels/check.cuh"
#include "cuda/kernels/kernels.cuh"

namespace cllm::cuda {

namespace {

constexpr int kThreads = 128;

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
  // Quantised rows need not be multiples of 16 bytes: a block of Q8_0 has 34 bytes.
  if (copy_as<uint4>(target, source, tensor.row_bytes)) return;
  if (copy_as<uint32_t>(target, source, tensor.row_bytes)) return;
  if (copy_as<uint16_t>(target, source, tensor.row_bytes)) return;
  copy_as<char>(target, source, tensor.row_bytes);
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
