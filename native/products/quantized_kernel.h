#pragma once

// Products with weights in block formats, written once for all instruction sets: include it behind a vector_*.h.
#include <cstring>
#include <utility>

#include "products/column_tiles.h"
#include "products/quantized_layout.h"

namespace cllm {

namespace {

constexpr float kSmallestScaled = 1e-30f;            // a block whose values are all smaller is rounded to zero
constexpr int64_t kPrefetchBytes = 4096;             // distance of the prefetched weights
constexpr int kParts = kBlockRows / Vector::kLanes;  // registers that hold one value of each row of a panel

/// Calls run.operator()<0>(), then <1>() and so on.
template <int... I, typename Run>
[[gnu::always_inline]] inline void unroll(std::integer_sequence<int, I...>, const Run& run) {
  (run.template operator()<I>(), ...);
}
template <int Count, typename Run>
[[gnu::always_inline]] inline void unroll(const Run& run) {
  unroll(std::make_integer_sequence<int, Count>{}, run);
}

constexpr int bits_of(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ8_0: return 8;
    case BlockFormat::kQ6_K: return 6;
    case BlockFormat::kQ5_0:
    case BlockFormat::kQ5_1:
    case BlockFormat::kQ5_K: return 5;
    default: return 4;
  }
}

/// The offset that is subtracted from quants stored without a sign.
constexpr int offset(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ4_0: return 8;
    case BlockFormat::kQ5_0: return 16;
    case BlockFormat::kQ8_0: return 128;
    case BlockFormat::kQ6_K: return 32;
    default: return 0;
  }
}

/// Pointers to the parts of the weights of as many rows of a panel as a register has lanes.
struct PanelPart {
  PanelPart() = default;
  PanelPart(const void* packed, const BlockLayout& layout, int64_t row, int64_t blocks, int part) {
    const auto* base = static_cast<const uint8_t*>(packed);
    const int64_t lane = part * Vector::kLanes, groups = row * (blocks / layout.per_scale) + lane;
    quants = base + row * blocks * layout.words * 4 + lane * 4;
    high = base + layout.high + row * blocks * layout.high_words * 4 + lane * 4;
    fine = base + layout.fine + row * blocks * 2 + lane;
    scales = base + layout.scales + groups * BlockLayout::kHalfBytes;
    mins = base + layout.mins + groups * BlockLayout::kHalfBytes;
  }
  const uint8_t *quants, *high, *fine, *scales, *mins;
};

/// Prefetches a panel's weights by hand, because the processor's own prefetching stops at each page of 4 KB.
template <BlockFormat Format>
[[gnu::always_inline]] inline void prefetch(const PanelPart& panel, int64_t block) {
  constexpr int kLines = Format == BlockFormat::kQ8_0 ? 8 : 4;
  const uint8_t* ahead = panel.quants + block * kLines * 64 + kPrefetchBytes;
  for (int i = 0; i < kLines; i++) __builtin_prefetch(ahead + i * 64);
}

/// Shifts to the left, or to the right where Left is negative.
template <int Left>
[[gnu::always_inline]] inline Vector::Ints shifted(Vector::Ints x) {
  if constexpr (Left >= 0) {
    return Vector::shift_left<Left>(x);
  } else {
    return Vector::shift_right<-Left>(x);
  }
}

/// The weights 4 * Word to 4 * Word + 3 of a block of each row, before the format's offset is subtracted.
template <BlockFormat Format, int Word>
[[gnu::always_inline]] inline Vector::Ints load_weights(const PanelPart& panel, int64_t block) {
  using V = Vector;
  if constexpr (Format == BlockFormat::kQ8_0) return V::load_ints(panel.quants + (block * 8 + Word) * 64);
  constexpr int kPlace = Word % 4;
  const V::Ints two = V::load_ints(panel.quants + (block * 4 + kPlace) * 64);
  V::Ints low;
  if constexpr (Word < 4) {
    low = V::both(two, V::set_bytes(15));
  } else {
    low = V::both(V::template shift_right<4>(two), V::set_bytes(15));
  }
  if constexpr (BlockLayout::has_five_bits(Format)) {
    const V::Ints high = V::load_ints(panel.high + block * 64);
    const V::Ints bits = shifted<4 - Word>(high);
    return V::either(low, V::both(bits, V::set_bytes(0x10)));
  } else if constexpr (Format == BlockFormat::kQ6_K) {
    const V::Ints high = V::load_ints(panel.high + (block * 2 + Word / 4) * 64);
    const V::Ints bits = shifted<4 - 2 * kPlace>(high);
    return V::either(low, V::both(bits, V::set_bytes(0x30)));
  } else {
    return low;
  }
}

/// Scales of a block of some rows, one for each group. `min` is added to every weight.
template <BlockFormat Format>
struct Scales {
  Vector::Floats group[groups_of(Format)], min;

  [[gnu::always_inline]] Scales(const PanelPart& panel, int64_t block) {
    using V = Vector;
    const auto half = [](const uint8_t* from, int64_t i) {
      return V::load_f16(from + i * kBlockRows * BlockLayout::kHalfBytes);
    };
    if constexpr (!BlockLayout::is_k(Format)) {
      group[0] = half(panel.scales, block);
      if constexpr (BlockLayout::has_mins(Format)) min = half(panel.mins, block);
    } else {
      constexpr bool kSigned = Format == BlockFormat::kQ6_K;
      const V::Floats d = half(panel.scales, block / kBlocksOfSuperblock);
      const auto fine = [&](int i) { return V::bytes_to_floats(panel.fine + (block * 2 + i) * kBlockRows, kSigned); };
      group[0] = V::multiply(d, fine(0));
      if constexpr (groups_of(Format) == 2) group[1] = V::multiply(d, fine(1));
      if constexpr (BlockLayout::has_mins(Format)) {
        const V::Floats scale = half(panel.mins, block / kBlocksOfSuperblock);
        min = V::multiply(V::multiply(scale, V::set(-1)), fine(1));
      }
    }
  }
};

/// Multiplies `Registers` registers of rows by `Columns` columns. Each register of weights is used for all columns in
/// turn: the additions of one column depend on each other, so a run of them would fill the scheduler with instructions
/// that cannot start yet. The function has all registers for itself where it is not inlined.
template <BlockFormat Format, int Columns, int Registers>
[[gnu::noinline]] void quantized_tile(const PanelPart (&panels)[Registers], int64_t blocks, const char* rounded,
                                      float* c, int64_t c_stride) {
  using V = Vector;
  constexpr int kGroups = groups_of(Format), kWords = 8 / kGroups;
  using Sum = WordSum<bits_of(Format), kWords>;
  const RoundedLayout layout(Format, blocks);
  V::Floats sum[Columns][Registers];
  for (auto& column : sum) {
    for (auto& s : column) s = V::zero();
  }
  for (int64_t block = 0; block < blocks; block++) {
    prefetch<Format>(panels[0], block);
    const auto at = [&](int j, int64_t part) __attribute__((always_inline)) {
      return rounded + j * layout.bytes + part;
    };
    V::Floats scaled[Columns][Registers];
    unroll<kGroups>([&]<int Group>() __attribute__((always_inline)) {
      Sum total[Columns][Registers];
      if constexpr (Sum::kCorrectedFirst) {
#pragma GCC unroll 16
        for (int j = 0; j < Columns; j++) {
          const auto* corrections = reinterpret_cast<const int32_t*>(at(j, layout.corrections));
          const int32_t correction = offset(Format) == 0 ? 0 : corrections[block * kGroups + Group];
#pragma GCC unroll 8
          for (int r = 0; r < Registers; r++) total[j][r].start(correction);
        }
      }
      unroll<kWords>([&]<int I>() __attribute__((always_inline)) {
        typename Sum::Weights weights[Registers];
#pragma GCC unroll 8
        for (int r = 0; r < Registers; r++) {
          weights[r] = Sum::prepare(load_weights<Format, Group * kWords + I>(panels[r], block));
        }
#pragma GCC unroll 16
        for (int j = 0; j < Columns; j++) {
          const auto column = Sum::template load<Group * kWords + I>(at(j, block * Sum::kColumnBytes));
#pragma GCC unroll 8
          for (int r = 0; r < Registers; r++) total[j][r].template add<I>(weights[r], column);
        }
      });
#pragma GCC unroll 16
      for (int j = 0; j < Columns; j++) {
        const auto* corrections = reinterpret_cast<const int32_t*>(at(j, layout.corrections));
        const int32_t correction = offset(Format) == 0 ? 0 : corrections[block * kGroups + Group];
#pragma GCC unroll 8
        for (int r = 0; r < Registers; r++) {
          const V::Floats dot = V::to_floats(total[j][r].total(correction));
          if constexpr (kGroups == 1) {
            scaled[j][r] = dot;
          } else {
            const V::Floats scale = Scales<Format>(panels[r], block).group[Group];
            scaled[j][r] = Group == 0 ? V::multiply(dot, scale) : V::fma(dot, scale, scaled[j][r]);
          }
        }
      }
    });
#pragma GCC unroll 8
    for (int r = 0; r < Registers; r++) {
      const Scales<Format> scales(panels[r], block);
#pragma GCC unroll 16
      for (int j = 0; j < Columns; j++) {
        const V::Floats factor = V::set(reinterpret_cast<const float*>(at(j, layout.factors))[block]);
        if constexpr (kGroups == 1) {
          sum[j][r] = V::fma(scaled[j][r], V::multiply(scales.group[0], factor), sum[j][r]);
        } else {
          sum[j][r] = V::fma(scaled[j][r], factor, sum[j][r]);
        }
        if constexpr (BlockLayout::has_mins(Format)) {
          const float column_sum = reinterpret_cast<const float*>(at(j, layout.corrections))[block];
          sum[j][r] = V::fma(scales.min, V::set(column_sum), sum[j][r]);
        }
      }
    }
  }
  for (int j = 0; j < Columns; j++) {
    for (int r = 0; r < Registers; r++) V::store(c + j * c_stride + r * V::kLanes, sum[j][r]);
  }
}

/// Columns of a tile whose sums fit into the registers beside the weights, with a panel's rows in `kParts` registers.
constexpr int kTileColumns = Vector::kRegisters == 16 ? 4 : kParts == 1 ? 12 : 4;

template <BlockFormat Format>
void multiply_rows(const void* packed, int64_t rows, int64_t blocks, int64_t first, int64_t end, const char* rounded,
                   int64_t columns, float* c, int64_t c_stride) {
  const BlockLayout layout(Format, rows, blocks);
  const int64_t bytes = RoundedLayout(Format, blocks).bytes;
  for_each_sweep(columns, bytes, [&](int64_t column, int64_t count) {
    for (int64_t row = first; row < end; row += kBlockRows) {
      PanelPart panel[kParts];
      for (int part = 0; part < kParts; part++) panel[part] = PanelPart(packed, layout, row, blocks, part);
      in_column_tiles<kTileColumns>(count, [&]<int Columns>(int64_t j) {
        quantized_tile<Format, Columns, kParts>(panel, blocks, rounded + (column + j) * bytes,
                                                c + (column + j) * c_stride + row, c_stride);
      });
    }
  });
}

void round_columns(BlockFormat format, const float* x, int64_t blocks, void* rounded) {
  const RoundedLayout layout(format, blocks);
  auto* quants = static_cast<int8_t*>(rounded);
  auto* factors = reinterpret_cast<float*>(quants + layout.factors);
  auto* corrections = reinterpret_cast<char*>(quants + layout.corrections);
  const bool k_format = BlockLayout::is_k(format);
  for (int64_t block = 0; block < blocks; block++) {
    const float* from = x + block * kBlockWeights;
    // A value that is not finite makes the whole sum NaN. Values too small for a scale become zero.
    const float largest = Vector::largest_of_32(from), factor = largest / 127;
    int32_t sums[2] = {};
    int8_t bytes[kBlockWeights] = {};
    if (largest > kSmallestScaled) Vector::to_bytes(from, 127 / largest, bytes, sums);
    if (format == BlockFormat::kQ8_0) {
      WordSum<8, 8>::store(bytes, quants + block * WordSum<8, 8>::kColumnBytes);
    } else {
      std::memcpy(quants + block * kBlockWeights, bytes, kBlockWeights);
    }
    factors[block] = k_format ? factor : Vector::f16_rounded(factor);
    const auto set = [&](int64_t i, auto value) { std::memcpy(corrections + i * 4, &value, 4); };
    if (groups_of(format) == 2) {
      for (int group = 0; group < 2; group++) set(2 * block + group, -offset(format) * sums[group]);
    } else if (BlockLayout::has_mins(format)) {
      const float sum = factor * static_cast<float>(sums[0] + sums[1]);
      set(block, k_format ? sum : Vector::f16_rounded(sum));
    } else {
      set(block, -offset(format) * (sums[0] + sums[1]));
    }
  }
}

void multiply_quantized(BlockFormat format, const void* packed, int64_t rows, int64_t blocks, int64_t first,
                        int64_t end, const void* rounded, int64_t columns, float* c, int64_t c_stride) {
  const auto run = [&](auto product) {
    product(packed, rows, blocks, first, end, static_cast<const char*>(rounded), columns, c, c_stride);
  };
  switch (format) {
    case BlockFormat::kQ4_0: return run(multiply_rows<BlockFormat::kQ4_0>);
    case BlockFormat::kQ4_1: return run(multiply_rows<BlockFormat::kQ4_1>);
    case BlockFormat::kQ5_0: return run(multiply_rows<BlockFormat::kQ5_0>);
    case BlockFormat::kQ5_1: return run(multiply_rows<BlockFormat::kQ5_1>);
    case BlockFormat::kQ8_0: return run(multiply_rows<BlockFormat::kQ8_0>);
    case BlockFormat::kQ4_K: return run(multiply_rows<BlockFormat::kQ4_K>);
    case BlockFormat::kQ5_K: return run(multiply_rows<BlockFormat::kQ5_K>);
    case BlockFormat::kQ6_K: return run(multiply_rows<BlockFormat::kQ6_K>);
  }
}

}  // namespace

}  // namespace cllm
