#pragma once

#include <cstdint>

#include "kernels/advance.h"
#include "kernels/types.h"

namespace cllm {

/// One K or V tensor of one layer, all streams in it.
struct KvTensor {
  char* data = nullptr;
  /// Rows: cell c of stream s is `row_bytes` bytes at data + (s * kv_size + c) * row_bytes. Any row type, quantised
  /// too: rows are copied as they are. Transposed (V without flash attention): row_bytes == 0; element e of cell c of
  /// stream s is `element_bytes` (2 or 4) bytes at data + ((s * width + e) * kv_size + c) * element_bytes.
  int64_t row_bytes = 0;
  int32_t element_bytes = 0;
  int32_t width = 0;
};

/// `roll_forward`: where a candidate other than the lane's own block won, copies the rows of its accepted drafts from
/// scratch cells to the lane's own, in all layers: for j = 1 .. emitted - 1 cell scratch + (w - 1) * n + j goes to cell
/// p + j. (Row p, of the confirmed token, is in every candidate; the lane's own is right.) Source and target never
/// overlap. Lanes whose own block won, or that did not run, are left alone. After `verify`, before the next pass.
struct RollForwardArgs {
  PassShape shape;
  const Verdict* verdicts = nullptr;  // [B]
  const KvTensor* tensors = nullptr;  // [count], in device memory
  int32_t count = 0;
  int32_t first_stream = 0;  // of lane 0
  int64_t kv_size = 0;       // cells of a stream
  ScratchRows scratch;
};

/// On the CPU.
void roll_forward(const RollForwardArgs& args);

}  // namespace cllm
