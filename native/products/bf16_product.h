#pragma once

#include <cstddef>
#include <cstdint>

namespace cllm {

/// BF16 matrix products for CPUs with AVX512-BF16, on weights that are packed for it. A register holds 16 outputs, so
/// no sum across a register is ever needed, and every output is summed over k in one order, pair after pair, whatever
/// the number of columns: a product does not depend on how many tokens go through at once, to the bit.
///
/// Packed: a panel is `registers` * 16 rows; pair p of its row r (two neighbouring BF16 along k) lies at
/// [p * registers * 16 + r]. Accumulation and rounding are the CPU's: VDPBF16PS or, where the CPU has AMX, TDPBF16PS
/// (kernels/amx_product.h); F32 sums, denormals flushed.

inline constexpr int64_t kPanelLanes = 16;

/// Whether this binary has the kernel. Everything below may only be called then.
bool has_bf16_product();

/// Packs `registers` * 16 rows (registers 1 or 2) of `pairs` pairs, `stride` bytes apart.
void pack_panel(const void* rows, size_t stride, int registers, int64_t pairs, uint32_t* packed);

/// c[j * c_stride + r] = sum over k of row r and column j of b, for the rows of `panels` panels that lie one behind the
/// other, and `columns` columns of b, `b_stride` bytes apart. `add`: added to what c holds.
void panel_product(const uint32_t* packed, int registers, int64_t panels, int64_t pairs, const void* b, size_t b_stride,
                   int64_t columns, float* c, size_t c_stride, bool add);

/// Rounds to nearest even.
void round_to_bf16(const float* from, uint16_t* to, int64_t count);

}  // namespace cllm
