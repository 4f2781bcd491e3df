#pragma once

#include <cstddef>
#include <cstdint>

namespace cllm {

/// Interface of the products with weights of 16 bits, in F32: a column is not rounded, and every output is summed over
/// k in one order, each product added without rounding it before (fma). So a product is bit-identical however many
/// tokens go through at once. CPUs with instructions for BF16 have a faster product for it (bf16_product.h).
///
/// Packed layout: a panel is 16 rows. kF16: element i of row r lies at [i * 16 + r]. kBf16: the pair of elements 2i and
/// 2i + 1 of row r lies at [i * 16 + r].

enum class HalfFormat { kF16, kBf16 };

inline constexpr int64_t kHalfRows = 16;

constexpr int64_t half_panel_bytes(int64_t k) { return kHalfRows * k * 2; }

/// Packs 16 rows of k elements, `stride` bytes apart. kBf16: k is even.
void pack_halves(HalfFormat format, const void* rows, size_t stride, int64_t k, void* packed);

/// c[j * c_stride + r] = sum over k of row r times column j of x, for the rows of `panels` adjacent panels; `x_stride`
/// is in bytes.
using HalfProduct = void(HalfFormat format, const void* packed, int64_t panels, int64_t k, const float* x,
                         int64_t x_stride, int64_t columns, float* c, int64_t c_stride);

}  // namespace cllm
