#pragma once

#include <cstddef>
#include <cstdint>

namespace cllm {

/// Interface of the matrix products with weights in GGUF's block formats (quantized_kernel.h). Weights are repacked
/// (quantized_pack.cpp); columns are rounded to 8 bits in blocks of 32, each block with its own scale, as in ggml. Sums
/// within a block are sums of integers and thus exact; blocks are added up in one order whatever the number of columns
/// and the instruction set. So a product is bit-identical however many tokens go through at once, and on every CPU.
/// Weights are unpacked once for all columns of a tile.

enum class BlockFormat {
  kQ4_0,  // d * (q - 8)
  kQ4_1,  // d * q + m
  kQ5_0,  // d * (q - 16), q has 5 bits
  kQ5_1,  // d * q + m, q has 5 bits
  kQ8_0,  // d * q, q signed
  kQ4_K,  // d * scale * q - dmin * min; eight blocks share d and dmin
  kQ5_K,  // the same with 5 bits
  kQ6_K,  // d * scale * (q - 32), a scale for each half of a block; eight blocks share d
};

inline constexpr int64_t kBlockWeights = 32;
inline constexpr int64_t kBlockRows = 16;  // rows that are packed together

/// The number of blocks in a row must be a multiple of this.
int64_t block_multiple(BlockFormat format);

/// Bytes of `rows` packed rows of `blocks` blocks: as many as in the file, or up to 3% more for kQ4_K and kQ5_K.
size_t packed_bytes(BlockFormat format, int64_t rows, int64_t blocks);

/// Packs `rows` rows (a multiple of 16) of `blocks` blocks from the order of a GGUF file into the layout of
/// quantized_layout.h.
void pack_blocks(BlockFormat format, const void* from, int64_t rows, int64_t blocks, void* packed);

/// Bytes of a rounded column of `blocks` blocks.
size_t rounded_bytes(BlockFormat format, int64_t blocks);

/// Rounds the column x [32 * blocks] for products with weights of `format`. For Q4_0, Q4_1 and Q8_0, scales and sums
/// are rounded to F16 as in ggml's Q8_0 and Q8_1, so that the product differs from ggml's only in the order of its
/// sums.
using RoundToBlocks = void(BlockFormat format, const float* x, int64_t blocks, void* rounded);

/// c[j * c_stride + r] = row r times column j, for the rows r in [first, end), both multiples of 16, of the packed
/// `rows` rows; c points to the result of row 0. `rounded` holds `columns` columns as round_to_blocks() writes them,
/// one after the other.
using QuantizedProduct = void(BlockFormat format, const void* packed, int64_t rows, int64_t blocks, int64_t first,
                              int64_t end, const void* rounded, int64_t columns, float* c, int64_t c_stride);

}  // namespace cllm
