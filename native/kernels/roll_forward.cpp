#include "kernels/roll_forward.h"

#include <cstring>

namespace cllm {

namespace {

void copy_row(const KvTensor& tensor, int64_t kv_size, int64_t stream, int64_t from, int64_t to) {
  if (tensor.row_bytes != 0) {
    char* base = tensor.data + stream * kv_size * tensor.row_bytes;
    std::memcpy(base + to * tensor.row_bytes, base + from * tensor.row_bytes, static_cast<size_t>(tensor.row_bytes));
    return;
  }
  for (int64_t e = 0; e < tensor.width; e++) {
    char* base = tensor.data + (stream * tensor.width + e) * kv_size * tensor.element_bytes;
    std::memcpy(base + to * tensor.element_bytes, base + from * tensor.element_bytes,
                static_cast<size_t>(tensor.element_bytes));
  }
}

}  // namespace

void roll_forward(const RollForwardArgs& args) {
  const int n = args.shape.block;
  for (int32_t b = 0; b < args.shape.lanes; b++) {
    const Verdict& verdict = args.verdicts[b];
    if (verdict.winner == 0) continue;
    const int64_t stream = static_cast<int64_t>(args.first_stream) + b;
    const int64_t from = static_cast<int64_t>(args.scratch.first) + static_cast<int64_t>(verdict.winner - 1) * n;
    for (int j = 1; j < verdict.emitted; j++) {
      for (int32_t t = 0; t < args.count; t++) {
        copy_row(args.tensors[t], args.kv_size, stream, from + j, static_cast<int64_t>(verdict.position) + j);
      }
    }
  }
}

}  // namespace cllm
