#pragma once

#include "products/quantized_product.h"

namespace cllm {

inline constexpr int64_t kBlocksOfSuperblock = 8;  // of the K formats

/// Where the parts of packed weights lie, and what they hold. Of 16 rows each, block after block:
///   quants  [blocks][words][16 rows][4 bytes]; of 4 words a byte's upper half holds the block's weights 16 to 31
///   high    [blocks][2][16 rows][4 bytes]: upper 2 of 6 bits, of words 0 to 3 and of 4 to 7 (kQ6_K)
///   fine    [blocks][2][16 rows] bytes: scale and min (kQ4_K), scales of the two halves (kQ6_K)
///   scales  [blocks / per_scale][16 rows] F16
///   mins    the same (kQ4_1, kQ4_K)
/// Each part holds all rows of the matrix.
struct BlockLayout {
  static constexpr int64_t kHalf = 2;  // bytes of an F16

  BlockLayout(BlockFormat format, int64_t rows, int64_t blocks) : k_format(is_k(format)), with_mins(has_mins(format)) {
    words = format == BlockFormat::kQ8_0 ? 8 : 4;
    per_scale = k_format ? kBlocksOfSuperblock : 1;
    high = rows * blocks * words * 4;
    fine = high + (format == BlockFormat::kQ6_K ? rows * blocks * 8 : 0);
    scales = fine + (k_format ? rows * blocks * 2 : 0);
    mins = scales + rows * (blocks / per_scale) * kHalf;
    bytes = mins + (with_mins ? rows * (blocks / per_scale) * kHalf : 0);
  }

  static constexpr bool is_k(BlockFormat format) {
    return format == BlockFormat::kQ4_K || format == BlockFormat::kQ6_K;
  }

  static constexpr bool has_mins(BlockFormat format) {
    return format == BlockFormat::kQ4_1 || format == BlockFormat::kQ4_K;
  }

  bool k_format, with_mins;
  int64_t words, per_scale;                 // of a block of one row; blocks of an F16 scale
  int64_t high, fine, scales, mins, bytes;  // where they begin, and the whole
};

}  // namespace cllm
