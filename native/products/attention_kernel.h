#pragma once

// Attention (attention.h), written once for all instruction sets: include it behind a vector_*.h. Sums of a head's
// elements are kept in 16 lanes, whatever the size of the registers, so that all instruction sets add in one order.
#include <cstring>

#include "base/exact_math.h"
#include "products/attention.h"

namespace cllm {

namespace {

constexpr float kHiddenScore = -__builtin_inff();
constexpr int kCells = 16;                          // cells that are computed together, and lanes of a sum
constexpr int kSumParts = kCells / Vector::kLanes;  // registers of such a sum

const float* query(const AttentionArgs& args, int64_t row) {
  return reinterpret_cast<const float*>(args.q + row * args.q_stride);
}

/// The scores q . k of a row and the 16 cells from `cell` on. For each score 16 lanes sum their products along the
/// head; then the upper half of the lanes is added to the lower half until one is left.
void direct_scores(const AttentionArgs& args, int64_t row, int64_t cell, float* scores) {
  using V = Vector;
  constexpr int kTogether = V::kLanes < 4 ? V::kLanes : 4;
  const float* q = query(args, row);
  for (int i = 0; i < kCells; i += V::kLanes) {
    V::Floats sums[V::kLanes];  // of one cell each
    for (int first = 0; first < V::kLanes; first += kTogether) {
      V::Floats parts[kTogether][kSumParts];
      for (auto& of_cell : parts) {
        for (auto& part : of_cell) part = V::zero();
      }
      const char* k = args.k + (cell + i + first) * args.k_stride;
      for (int64_t d = 0; d < args.size; d += kCells) {
#pragma GCC unroll 4
        for (int p = 0; p < kSumParts; p++) {
          const V::Floats x = V::load(q + d + p * V::kLanes);
#pragma GCC unroll 4
          for (int j = 0; j < kTogether; j++) {
            const V::Floats y = V::load_f16(k + j * args.k_stride + (d + p * V::kLanes) * 2);
            parts[j][p] = V::fma(x, y, parts[j][p]);
          }
        }
      }
#pragma GCC unroll 4
      for (int j = 0; j < kTogether; j++) {
        for (int half = kSumParts / 2; half > 0; half /= 2) {
          for (int p = 0; p < half; p++) parts[j][p] = V::add(parts[j][p], parts[j][p + half]);
        }
        sums[first + j] = parts[j][0];
      }
    }
    V::transpose(sums);  // sums[l] is then lane l of all cells
    for (int half = V::kLanes / 2; half > 0; half /= 2) {
      for (int l = 0; l < half; l++) sums[l] = V::add(sums[l], sums[l + half]);
    }
    V::store(scores + i, sums[0]);
  }
}

/// Transposes all elements of 16 cells: to[d * 16 + i] is element d of cell i.
void transpose_cells(const AttentionArgs& args, int64_t cell, float* to) {
  using V = Vector;
  for (int i = 0; i < kCells; i += V::kLanes) {
    for (int64_t d = 0; d < args.size; d += V::kLanes) {
      V::Floats lines[V::kLanes];
      for (int j = 0; j < V::kLanes; j++) lines[j] = V::load_f16(args.k + (cell + i + j) * args.k_stride + d * 2);
      V::transpose(lines);
      for (int l = 0; l < V::kLanes; l++) V::store(to + (d + l) * kCells + i, lines[l]);
    }
  }
}

/// Lane `Lane` of the scores' sums, or with a Stride below 16 the sum of all lanes that are `Stride` apart, in the
/// order of direct_scores().
template <int Rows, int Lane, int Stride>
[[gnu::always_inline]] inline void lane_sums(const AttentionArgs& args, const float* const (&q)[Rows],
                                             const float* transposed, Vector::Floats (&sums)[Rows][kSumParts]) {
  using V = Vector;
  if constexpr (Stride == kCells) {
    for (auto& of_row : sums) {
      for (auto& sum : of_row) sum = V::zero();
    }
    for (int64_t d = Lane; d < args.size; d += kCells) {
#pragma GCC unroll 4
      for (int p = 0; p < kSumParts; p++) {
        const V::Floats k = V::load(transposed + d * kCells + p * V::kLanes);
#pragma GCC unroll 4
        for (int r = 0; r < Rows; r++) sums[r][p] = V::fma(V::set(q[r][d]), k, sums[r][p]);
      }
    }
  } else {
    V::Floats other[Rows][kSumParts];
    lane_sums<Rows, Lane, 2 * Stride>(args, q, transposed, sums);
    lane_sums<Rows, Lane + Stride, 2 * Stride>(args, q, transposed, other);
#pragma GCC unroll 4
    for (int r = 0; r < Rows; r++) {
      for (int p = 0; p < kSumParts; p++) sums[r][p] = V::add(sums[r][p], other[r][p]);
    }
  }
}

/// The scores of Rows rows and 16 cells that transpose_cells() has transposed. They are bit-identical to those of
/// direct_scores(), because the order of the sums is the same.
template <int Rows>
void transposed_scores(const AttentionArgs& args, int64_t row, const float* transposed, float* scores) {
  const float* q[Rows];
  for (int r = 0; r < Rows; r++) q[r] = query(args, row + r);
  Vector::Floats sums[Rows][kSumParts];
  lane_sums<Rows, 0, 1>(args, q, transposed, sums);
  for (int r = 0; r < Rows; r++) {
    for (int p = 0; p < kSumParts; p++) Vector::store(scores + r * args.cells + p * Vector::kLanes, sums[r][p]);
  }
}

/// End of the cells that any of the rows sees, rounded up to a multiple of 16.
int64_t visible_end(const AttentionArgs& args, int64_t row, int64_t rows) {
  if (args.mask == nullptr) return args.cells;
  constexpr uint64_t kHiddenHalves = 0xfc00fc00fc00fc00u;  // -inf in F16
  for (int64_t end = args.cells; end > 0; end -= kCells) {
    for (int64_t r = 0; r < rows; r++) {
      uint64_t halves[kCells / 4];
      std::memcpy(halves, args.mask + (row + r) * args.mask_stride + (end - kCells) * 2, sizeof(halves));
      for (const uint64_t four : halves) {
        if (four != kHiddenHalves) return end;
      }
    }
  }
  return 0;
}

/// Turns scores into softmax weights in place, before the division by their sum, which is returned. The lane of the sum
/// that a visible cell goes to depends on how many visible cells precede it, not on where it lies, because a
/// candidate's cells lie elsewhere. `seen` [end + 16] is scratch memory.
float softmax_weights(const AttentionArgs& args, int64_t row, float* scores, int64_t end, float* seen) {
  using V = Vector;
  V::Floats largest = V::set(kHiddenScore);
  for (int64_t i = 0; i < end; i += V::kLanes) {
    V::Floats score = V::multiply(V::load(scores + i), V::set(args.scale));
    if (args.mask != nullptr) {
      const V::Floats mask = V::load_f16(args.mask + row * args.mask_stride + i * 2);
      // A hidden cell may hold anything, even NaN.
      score = V::keep_equal(V::add(score, mask), mask, kHiddenScore);
    }
    V::store(scores + i, score);
    largest = V::max(score, largest);
  }
  float lanes[kCells];
  V::store(lanes, largest);
  float maximum = lanes[0];
  for (int l = 1; l < V::kLanes; l++) maximum = lanes[l] > maximum ? lanes[l] : maximum;
  if (!(maximum > kHiddenScore)) {
    for (int64_t i = 0; i < end; i++) scores[i] = 0;
    return 0;
  }
  int64_t count = 0;
  for (int64_t i = 0; i < end; i += kCells) {
    uint32_t visible = 0;
    for (int p = 0; p < kSumParts; p++) {
      visible |= V::unequal(V::load(scores + i + p * V::kLanes), kHiddenScore) << p * V::kLanes;
    }
    for (int l = 0; l < kCells; l++) scores[i + l] = exp_of(scores[i + l] - maximum);
    if (visible == 0xffff) {
      std::memcpy(seen + count, scores + i, kCells * sizeof(float));
      count += kCells;
      continue;
    }
    for (int l = 0; l < kCells; l++) {
      seen[count] = scores[i + l];
      count += visible >> l & 1;
    }
  }
  for (int l = 0; l < kCells; l++) seen[count + l] = 0;
  V::Floats total[kSumParts];
  for (auto& part : total) part = V::zero();
  for (int64_t i = 0; i < count; i += kCells) {
    for (int p = 0; p < kSumParts; p++) total[p] = V::add(total[p], V::load(seen + i + p * V::kLanes));
  }
  for (int p = 0; p < kSumParts; p++) V::store(lanes + p * V::kLanes, total[p]);
  float sum = lanes[0];
  for (int l = 1; l < kCells; l++) sum += lanes[l];
  return sum;
}

/// Bit mask of the cells, out of 16, that have a positive weight in any of the rows. The others may hold anything, even
/// NaN.
template <int Rows>
uint32_t cells_with_weight(const float* weights, int64_t stride, int64_t cell) {
  uint32_t any = 0;
  for (int r = 0; r < Rows; r++) {
    for (int p = 0; p < kSumParts; p++) {
      any |= Vector::above_zero(Vector::load(weights + r * stride + cell + p * Vector::kLanes)) << p * Vector::kLanes;
    }
  }
  return any;
}

/// Multiplies the weights [Rows, cells] by `Parts` registers of the values, from element d of the head on, and divides
/// by the sums.
template <int Rows, int Parts>
void values_part(const AttentionArgs& args, int64_t row, const float* weights, const float* sums, int64_t end,
                 int64_t d) {
  using V = Vector;
  V::Floats total[Rows][Parts];
  for (auto& of_row : total) {
    for (auto& part : of_row) part = V::zero();
  }
  for (int64_t cell = 0; cell < end; cell += kCells) {
    for (uint32_t any = cells_with_weight<Rows>(weights, args.cells, cell); any != 0; any &= any - 1) {
      const int64_t i = cell + __builtin_ctz(any);
      const char* v = args.v + i * args.v_stride + d * 2;
      V::Floats value[Parts];
#pragma GCC unroll 8
      for (int p = 0; p < Parts; p++) value[p] = V::load_f16(v + p * V::kLanes * 2);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; r++) {
        const V::Floats weight = V::set(weights[r * args.cells + i]);
#pragma GCC unroll 8
        for (int p = 0; p < Parts; p++) total[r][p] = V::fma(weight, value[p], total[r][p]);
      }
    }
  }
  for (int r = 0; r < Rows; r++) {
    const V::Floats share = V::set(sums[r] > 0 ? 1.0f / sums[r] : 0.0f);
    auto* out = reinterpret_cast<float*>(args.out + (row + r) * args.out_stride) + d;
    for (int p = 0; p < Parts; p++) V::store(out + p * V::kLanes, V::multiply(total[r][p], share));
  }
}

/// Computes the results of Rows rows from their scores.
template <int Rows>
void finish(const AttentionArgs& args, int64_t row, float* scores, int64_t end, float* seen) {
  float sums[Rows];
  for (int r = 0; r < Rows; r++) sums[r] = softmax_weights(args, row + r, scores + r * args.cells, end, seen);
  // Registers of a row's sums: with many registers 64 elements, with few as many as fit.
  constexpr int kParts = Vector::kRegisters == 32 ? (Vector::kLanes == 16 ? 4 : 16 / Rows) : Rows == 1 ? 8 : 2;
  int64_t d = 0;
  for (; d + kParts * Vector::kLanes <= args.size; d += kParts * Vector::kLanes) {
    values_part<Rows, kParts>(args, row, scores, sums, end, d);
  }
  for (; d < args.size; d += kCells) values_part<Rows, kSumParts>(args, row, scores, sums, end, d);
}

void attend_rows(const AttentionArgs& args, float* scratch) {
  constexpr int64_t kRowsToTranspose = 6;  // with fewer rows transposing the cells does not pay
  float* seen = scratch + kAttentionRows * args.cells;
  float* transposed = seen + args.cells + kCells;
  const int64_t end = visible_end(args, 0, args.rows);
  for (int64_t cell = 0; cell < end; cell += kCells) {
    float* scores = scratch + cell;
    if (args.rows < kRowsToTranspose) {
      for (int64_t row = 0; row < args.rows; row++) direct_scores(args, row, cell, scores + row * args.cells);
      continue;
    }
    transpose_cells(args, cell, transposed);
    int64_t row = 0;
    for (; row + 4 <= args.rows; row += 4) transposed_scores<4>(args, row, transposed, scores + row * args.cells);
    for (; row < args.rows; row++) transposed_scores<1>(args, row, transposed, scores + row * args.cells);
  }
  int64_t row = 0;
  for (; row + 4 <= args.rows; row += 4) finish<4>(args, row, scratch + row * args.cells, end, seen);
  for (; row < args.rows; row++) finish<1>(args, row, scratch + row * args.cells, end, seen);
}

}  // namespace

}  // namespace cllm
