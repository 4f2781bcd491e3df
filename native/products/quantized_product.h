#pragma once

#include <cstddef>
#include <cstdint>

namespace cllm {

/// Interface of the matrix products with weights in GGUF's block formats, for CPUs with AVX512-VNNI
/// (quantized_product_avx512.cpp). Weights are repacked (quantized_pack.cpp, for every CPU); columns are rounded to 8
/// bits in blocks of 32, each block with its own scale, as in ggml. Sums within a block are sums of integers and thus
/// exact; blocks are added up in one order whatever the number of columns. So a product is bit-identical however many
/// tokens go through at once. Unpacking costs the same for one column as for sixteen.

enum class BlockFormat {
  kQ4_0,  // d * (q - 8)
  kQ4_1,  // d * q + m
  kQ8_0,  // d * q, q signed
  kQ4_K,  // d * scale * q - dmin * min; eight blocks share d and dmin
  kQ6_K,  // d * scale * (q - 32), a scale for each half of a block; eight blocks share d
};

inline constexpr int64_t kBlockWeights = 32;
inline constexpr int64_t kBlockRows = 16;  // rows that are packed together

/// Whether this binary has the products. Only then may quantized_product() and round_to_blocks() be called.
bool has_quantized_product();

/// The number of blocks in a row must be a multiple of this.
int64_t block_multiple(BlockFormat format);

/// Bytes of `rows` packed rows of `blocks` blocks: as many as in the file, or 3% more for kQ4_K.
size_t packed_bytes(BlockFormat format, int64_t rows, int64_t blocks);

/// Packs `rows` rows (a multiple of 16) of `blocks` blocks from the order of a GGUF file into the layout of
/// quantized_layout.h.
void pack_blocks(BlockFormat format, const void* from, int64_t rows, int64_t blocks, void* packed);

/// Bytes of a rounded column of `blocks` blocks.
size_t rounded_bytes(BlockFormat format, int64_t blocks);

/// Rounds the column x [32 * blocks] for products with weights of `format`. For Q4_0, Q4_1 and Q8_0, scales and sums
/// are rounded to F16 as in ggml's Q8_0 and Q8_1, so that the product differs from ggml's only in the order of its
/// sums.
void round_to_blocks(BlockFormat format, const float* x, int64_t blocks, void* rounded);

/// c[j * c_stride + r] = row r times column j, for the rows r in [first, end), both multiples of 16, of the packed
/// `rows` rows; c points to the result of row 0. `rounded` holds `columns` columns as round_to_blocks() writes them,
/// one after the other.
void quantized_product(BlockFormat format, const void* packed, int64_t rows, int64_t blocks, int64_t first, int64_t end,
                       const void* rounded, int64_t columns, float* c, int64_t c_stride);

}  // namespace cllm
