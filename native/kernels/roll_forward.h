#pragma once

#include <cstdint>

#include "kernels/advance.h"
#include "kernels/types.h"

namespace cllm {

/// One K or V tensor of one layer, with all streams.
struct KvTensor {
  char* data = nullptr;
  /// A tensor of rows has cell c of stream s in `row_bytes` bytes at data + (s * kv_size + c) * row_bytes. Rows are
  /// copied as they are, so they may be of any type, also quantised. A transposed tensor (V without flash attention)
  /// has row_bytes == 0, and element e of cell c of stream s in `element_bytes` (2 or 4) bytes at data + ((s * width +
  /// e) * kv_size + c) * element_bytes.
  int64_t row_bytes = 0;
  int32_t element_bytes = 0;
  int32_t width = 0;
};

/// `roll_forward`: where a candidate other than the lane's own block won, copies the KV rows of its accepted drafts
/// from scratch cells to the lane's own cells, in all layers: for j = 1 .. emitted - 1, cell scratch + (w - 1) * n + j
/// goes to cell p + j. (Every candidate also computes row p, of the confirmed token, but the lane's own row p is
/// right already.) Source and target never overlap. Lanes whose own block won, or that did not run, stay unchanged. It
/// runs after `advance`, whose verdicts it reads, and before the next pass.
struct RollForwardArgs {
  PassShape shape;
  const Verdict* verdicts = nullptr;  // [B]
  const KvTensor* tensors = nullptr;  // [count], in device memory
  int32_t count = 0;
  int32_t first_stream = 0;  // stream of lane 0
  int64_t kv_size = 0;       // cells of a stream
  ScratchRows scratch;
};

/// CPU implementation.
void roll_forward(const RollForwardArgs& args);

}  // namespace cllm
