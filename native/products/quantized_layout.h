#pragma once

#include "products/quantized_product.h"

namespace cllm {

inline constexpr int64_t kBlocksOfSuperblock = 8;  // in the K formats

/// Layout of packed quantised weights. The matrix consists of the parts below, one after the other. Each part holds all
/// rows of the matrix, as panels of 16 rows, and a panel holds its blocks in order:
///   quants  [blocks][words][16 rows][4 bytes]; with 4 words the upper half of a byte holds a weight from 16 to 31
///   high    kQ6_K: [blocks][2][16 rows][4 bytes], upper 2 of the 6 bits, for words 0 to 3 and for 4 to 7;
///           formats of 5 bits: [blocks][16 rows][4 bytes], the upper bit of byte b of word i is bit i of byte b
///   fine    [blocks][2][16 rows] bytes: scale and min (kQ4_K, kQ5_K), or scales of the two halves (kQ6_K)
///   scales  [blocks / per_scale][16 rows] F16
///   mins    [blocks / per_scale][16 rows] F16 (kQ4_1, kQ5_1, kQ4_K, kQ5_K)
struct BlockLayout {
  static constexpr int64_t kHalfBytes = 2;  // size of an F16

  BlockLayout(BlockFormat format, int64_t rows, int64_t blocks) : k_format(is_k(format)), with_mins(has_mins(format)) {
    words = format == BlockFormat::kQ8_0 ? 8 : 4;
    per_scale = k_format ? kBlocksOfSuperblock : 1;
    high_words = format == BlockFormat::kQ6_K ? 2 : has_five_bits(format) ? 1 : 0;
    high = rows * blocks * words * 4;
    fine = high + rows * blocks * high_words * 4;
    scales = fine + (k_format ? rows * blocks * 2 : 0);
    mins = scales + rows * (blocks / per_scale) * kHalfBytes;
    bytes = mins + (with_mins ? rows * (blocks / per_scale) * kHalfBytes : 0);
  }

  static constexpr bool is_k(BlockFormat format) {
    return format == BlockFormat::kQ4_K || format == BlockFormat::kQ5_K || format == BlockFormat::kQ6_K;
  }

  static constexpr bool has_mins(BlockFormat format) {
    return format == BlockFormat::kQ4_1 || format == BlockFormat::kQ5_1 || format == BlockFormat::kQ4_K ||
           format == BlockFormat::kQ5_K;
  }

  static constexpr bool has_five_bits(BlockFormat format) {
    return format == BlockFormat::kQ5_0 || format == BlockFormat::kQ5_1 || format == BlockFormat::kQ5_K;
  }

  bool k_format, with_mins;
  int64_t words;                     // words of 32 bits that one block of one row has in `quants`
  int64_t high_words;                // the same in `high`
  int64_t per_scale;                 // blocks that share an F16 scale
  int64_t high, fine, scales, mins;  // offsets of the parts in bytes; quants begin at 0
  int64_t bytes;                     // size of all parts together
};

/// Scales in a block of one row: in kQ6_K each half has its own.
constexpr int groups_of(BlockFormat format) { return format == BlockFormat::kQ6_K ? 2 : 1; }

/// Byte offsets within a rounded column. The column begins with the quants of all blocks, in kQ8_0 with room for 16
/// bits each, which some instruction sets need; `factors` are their scales; `corrections` hold the sum of each block's,
/// or group's, quants, multiplied as the format's offset or min requires.
struct RoundedLayout {
  RoundedLayout(BlockFormat format, int64_t blocks)
      : factors(blocks * kBlockWeights * (format == BlockFormat::kQ8_0 ? 2 : 1)),
        corrections(factors + blocks * 4),
        bytes(corrections + blocks * 4 * groups_of(format)) {}
  int64_t factors, corrections, bytes;
};

}  // namespace cllm
