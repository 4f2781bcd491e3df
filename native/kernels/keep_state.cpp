#include "kernels/keep_state.h"

#include <cstring>

namespace cllm {

void keep_state(const KeepStateArgs& args) {
  for (int32_t b = 0; b < args.shape.lanes; b++) {
    if (!has_stopped(args.verdicts[b], args.lanes[b], args.shape.block)) continue;
    const int64_t from = args.states.row(args.shape.block - args.verdicts[b].emitted, args.first_lane + b);
    const int64_t to = args.states.row(args.states.spare_plane, args.first_lane + b);
    for (int32_t t = 0; t < args.count; t++) {
      const StateTensor& tensor = args.tensors[t];
      std::memcpy(tensor.data + to * tensor.row_bytes, tensor.data + from * tensor.row_bytes,
                  static_cast<size_t>(tensor.row_bytes));
    }
  }
}

}  // namespace cllm
