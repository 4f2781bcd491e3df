#pragma once

#include <cstdint>

namespace cllm {

/// Calls run.operator()<Columns>() with a number that is known while compiling; 1 <= columns <= Columns.
template <int Columns, typename Run>
void with_columns(int64_t columns, const Run& run) {
  if constexpr (Columns > 0) {
    if (columns == Columns) return run.template operator()<Columns>();
    with_columns<Columns - 1>(columns, run);
  }
}

/// Calls run.operator()<Columns>(j), j the tile's first column, for tiles of equal width, at most Most: 20 columns are
/// 10 and 10, not 16 and 4.
template <int Most, typename Run>
void in_column_tiles(int64_t columns, const Run& run) {
  const int64_t tiles = (columns + Most - 1) / Most;
  for (int64_t t = 0; t < tiles; t++) {
    const int64_t j = columns * t / tiles, end = columns * (t + 1) / tiles;
    with_columns<Most>(end - j, [&]<int Columns>() { run.template operator()<Columns>(j); });
  }
}

}  // namespace cllm
