#pragma once

#include <cstdint>

namespace cllm {

/// Calls run.operator()<columns>(), so that the number of columns, 1 <= columns <= Columns, is a constant of the called
/// code.
template <int Columns, typename Run>
void with_columns(int64_t columns, const Run& run) {
  if constexpr (Columns > 0) {
    if (columns == Columns) return run.template operator()<Columns>();
    with_columns<Columns - 1>(columns, run);
  }
}

/// Cuts the columns into tiles of about equal width, at most MaxColumns, and calls run.operator()<Columns>(j) for each,
/// where j is the tile's first column. So 20 columns become 10 and 10, not 16 and 4.
template <int MaxColumns, typename Run>
void in_column_tiles(int64_t columns, const Run& run) {
  const int64_t tiles = (columns + MaxColumns - 1) / MaxColumns;
  for (int64_t t = 0; t < tiles; t++) {
    const int64_t j = columns * t / tiles, end = columns * (t + 1) / tiles;
    with_columns<MaxColumns>(end - j, [&]<int Columns>() { run.template operator()<Columns>(j); });
  }
}

/// Calls run(first, count) for groups of columns, of about equal size, that fit into the second-level cache together.
/// All rows are multiplied by one group before the next.
template <typename Run>
void for_each_sweep(int64_t columns, int64_t bytes_of_column, const Run& run) {
  constexpr int64_t kBytes = 192 << 10, kLeast = 24, kMost = 128;
  const int64_t fitting = kBytes / bytes_of_column;
  const int64_t most = fitting < kLeast ? kLeast : fitting > kMost ? kMost : fitting;
  const int64_t sweeps = (columns + most - 1) / most;
  for (int64_t s = 0; s < sweeps; s++) {
    const int64_t first = columns * s / sweeps;
    run(first, columns * (s + 1) / sweeps - first);
  }
}

}  // namespace cllm
