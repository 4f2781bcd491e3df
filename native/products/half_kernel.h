#pragma once

// Products with weights of 16 bits in F32 arithmetic, written once for all instruction sets: include it behind a
// vector_*.h.
#include "products/column_tiles.h"
#include "products/half_product.h"

namespace cllm {

namespace {

template <int Registers>
using Addresses = const char* [Registers];

/// Multiplies `Registers` registers of rows by `Columns` columns.
template <HalfFormat Format, int Columns, int Registers>
void half_tile(const Addresses<Registers>& weights, int64_t k, const char* x, int64_t x_stride, float* c,
               int64_t c_stride) {
  using V = Vector;
  V::Floats sum[Columns][Registers];
  for (auto& column : sum) {
    for (auto& s : column) s = V::zero();
  }
  const auto step = [&](int64_t i, const V::Floats(&w)[Registers]) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int j = 0; j < Columns; j++) {
      const V::Floats value = V::set(reinterpret_cast<const float*>(x + j * x_stride)[i]);
#pragma GCC unroll 8
      for (int r = 0; r < Registers; r++) sum[j][r] = V::fma(w[r], value, sum[j][r]);
    }
  };
  constexpr int64_t kElement = Format == HalfFormat::kF16 ? 1 : 2;  // elements of k that lie together in a row
  for (int64_t i = 0; i < k; i += kElement) {
    V::Floats w[Registers];
    const int64_t line = i * kHalfRows * 2;
    __builtin_prefetch(weights[0] + line + 2048);
    if constexpr (Format == HalfFormat::kF16) {
#pragma GCC unroll 8
      for (int r = 0; r < Registers; r++) w[r] = V::load_f16(weights[r] + line);
      step(i, w);
    } else {
      V::Ints pairs[Registers];
#pragma GCC unroll 8
      for (int r = 0; r < Registers; r++) pairs[r] = V::load_ints(weights[r] + line);
#pragma GCC unroll 8
      for (int r = 0; r < Registers; r++) w[r] = V::lower_bf16(pairs[r]);
      step(i, w);
#pragma GCC unroll 8
      for (int r = 0; r < Registers; r++) w[r] = V::upper_bf16(pairs[r]);
      step(i + 1, w);
    }
  }
  for (int j = 0; j < Columns; j++) {
    for (int r = 0; r < Registers; r++) V::store(c + j * c_stride + r * V::kLanes, sum[j][r]);
  }
}

/// Multiplies as many rows as `Registers` registers have lanes, by all columns.
template <HalfFormat Format, int MaxColumns, int Registers>
void half_rows(const char* packed, int64_t k, const char* x, int64_t x_stride, int64_t columns, float* c,
               int64_t c_stride) {
  constexpr int kPerPanel = kHalfRows / Vector::kLanes;
  Addresses<Registers> weights;
  for (int r = 0; r < Registers; r++) {
    constexpr int64_t kLaneBytes = Format == HalfFormat::kF16 ? 2 : 4;
    weights[r] = packed + r / kPerPanel * half_panel_bytes(k) + r % kPerPanel * Vector::kLanes * kLaneBytes;
  }
  in_column_tiles<MaxColumns>(columns, [&]<int Columns>(int64_t j) {
    half_tile<Format, Columns, Registers>(weights, k, x + j * x_stride, x_stride, c + j * c_stride, c_stride);
  });
}

template <HalfFormat Format>
void half_panels(const char* packed, int64_t panels, int64_t k, const char* x, int64_t x_stride, int64_t columns,
                 float* c, int64_t c_stride) {
  constexpr int kPerPanel = kHalfRows / Vector::kLanes;
  // Registers of a tile: sums of one column wait for each other, so where columns are few there are more registers.
  constexpr int kForOne = kPerPanel == 1 ? 4 : 8, kPanelsForOne = kForOne / kPerPanel;
  constexpr int kForFew = kPerPanel == 4 ? 8 : 4;
  constexpr int kForMore = kPerPanel == 1 ? 2 : kPerPanel, kPanelsForMore = kForMore / kPerPanel;
  constexpr int kMaxColumns = (Vector::kRegisters * 3 / 4) / kForMore;
  for_each_sweep(columns, x_stride, [&](int64_t column, int64_t count) {
    int64_t panel = 0;
    const auto run = [&](auto function, int64_t step) {
      for (; panel + step <= panels; panel += step) {
        function(packed + panel * half_panel_bytes(k), k, x + column * x_stride, x_stride, count,
                 c + panel * kHalfRows + column * c_stride, c_stride);
      }
    };
    if (count == 1) run(half_rows<Format, 1, kForOne>, kPanelsForOne);
    if (count == 2) run(half_rows<Format, 2, kForFew>, kForFew / kPerPanel);
    if (count > 1) run(half_rows<Format, kMaxColumns, kForMore>, kPanelsForMore);
    run(half_rows<Format, kMaxColumns, kPerPanel>, 1);
  });
}

void multiply_halves(HalfFormat format, const void* packed, int64_t panels, int64_t k, const float* x, int64_t x_stride,
                     int64_t columns, float* c, int64_t c_stride) {
  const auto run = format == HalfFormat::kF16 ? half_panels<HalfFormat::kF16> : half_panels<HalfFormat::kBf16>;
  run(static_cast<const char*>(packed), panels, k, reinterpret_cast<const char*>(x), x_stride, columns, c, c_stride);
}

}  // namespace

}  // namespace cllm
