#pragma once

#include <cstddef>
#include <cstdint>

namespace cllm {

/// Products with weights in GGUF's block formats, for CPUs with AVX512-VNNI. Weights are repacked (same size), columns
/// rounded to 8 bits in blocks of 32 with a scale of their own, as ggml does too. Within a block sums are of integers,
/// and exact; blocks are added up in one order whatever the number of columns: a product does not depend on how many
/// tokens go through at once, to the bit. Unpacking costs the same for one column as for sixteen.

enum class BlockFormat {
  kQ4_0,  // d * (q - 8)
  kQ4_1,  // d * q + m
  kQ8_0,  // d * q, q signed
};

inline constexpr int64_t kBlockWeights = 32;  // of one scale
inline constexpr int64_t kBlockRows = 16;     // that are packed together

/// Whether this binary has the kernel. Everything below may only be called then.
bool has_quantized_product();

/// Bytes of a row of `blocks` blocks, in a file and packed alike.
size_t row_bytes(BlockFormat format, int64_t blocks);

/// Packs `rows` (a multiple of 16) rows of `blocks` blocks that lie one behind the other. For 16 rows each: quants
/// [blocks][4 or 8][16 rows][4 bytes], of which a nibble's upper half holds the block's weights 16 to 31; behind those
/// of all rows the scales [rows / 16][blocks][16] F16, and behind them the mins, where the format has some.
void pack_blocks(BlockFormat format, const void* from, int64_t rows, int64_t blocks, void* packed);

/// Bytes of a rounded column of `blocks` blocks.
size_t rounded_bytes(int64_t blocks);

/// Rounds x [32 * blocks] for products with weights of `format`.
void round_to_blocks(BlockFormat format, const float* x, int64_t blocks, void* rounded);

/// c[j * c_stride + r] = row r times column j, for the rows [first, end), multiples of 16, of the packed `rows` rows;
/// c is that of row 0. rounded [columns] as round_to_blocks() writes them, one behind the other.
void quantized_product(BlockFormat format, const void* packed, int64_t rows, int64_t blocks, int64_t first, int64_t end,
                       const void* rounded, int64_t columns, float* c, int64_t c_stride);

}  // namespace cllm
