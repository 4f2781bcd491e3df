#pragma once

#include <cstddef>
#include <cstdint>

namespace cllm {

/// Interface of the BF16 matrix products, for CPUs with AVX512-BF16 (bf16_product_avx512.cpp) and, where the CPU has
/// it, AMX (bf16_product_amx.cpp). The weights are packed for both. A register holds 16 outputs, so no sum across a
/// register is ever needed, and every output is summed over k in one order, pair after pair, whatever the number of
/// columns. So a product is bit-identical however many tokens go through at once.
///
/// Packed layout: a panel is `registers` * 16 rows; pair p of its row r (two neighbouring BF16 along k) lies at
/// [p * registers * 16 + r]. Accumulation and rounding are those of the CPU's instruction, VDPBF16PS or TDPBF16PS
/// (AMX): F32 sums, denormals flushed to zero.

inline constexpr int64_t kPanelLanes = 16;

/// Whether binary and CPU have the products. Only then may the functions below be called.
bool has_bf16_product();

/// Packs `registers` * 16 rows (registers 1 or 2) of `pairs` pairs, `stride` bytes apart.
void pack_panel(const void* rows, size_t stride, int registers, int64_t pairs, uint32_t* packed);

/// c[j * c_stride + r] = sum over k of row r times column j of b, for the rows of `panels` adjacent panels and
/// `columns` columns of b, `b_stride` bytes apart. With `add` the sum is added to the value in c.
void panel_product(const uint32_t* packed, int registers, int64_t panels, int64_t pairs, const void* b, size_t b_stride,
                   int64_t columns, float* c, size_t c_stride, bool add);

/// Rounds `count` values to the nearest BF16, ties to even.
void round_to_bf16(const float* from, uint16_t* to, int64_t count);

}  // namespace cllm
