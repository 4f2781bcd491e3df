// Attention with AVX-512; see attention.h.
#include <cstdint>
#include <limits>

#include "base/exact_math.h"
#include "products/attention.h"
#include "products/transpose_16x16.h"

// AVX512-BF16 is not used here, but attention is used only beside the BF16 products, which need it.
#if defined(CLLM_TRANSPOSE_16X16) && defined(__AVX512BF16__)
#define CLLM_ATTENTION 1
#endif

namespace cllm {

#ifdef CLLM_ATTENTION

namespace {

constexpr float kHidden = -std::numeric_limits<float>::infinity();
constexpr int kLanes = 16;

__m512 load_half(const char* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

/// Scores q . k of Rows rows and 16 / Rows cells; lane r * 16 / Rows + i holds the score of row r and cell i. For every
/// score, each lane sums its products along the head, then the lanes are summed from first to last.
template <int Rows>
__m512 scores_of(const AttentionArgs& args, int64_t row, int64_t cell) {
  constexpr int kCells = kLanes / Rows;
  __m512 sums[kLanes];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t d = 0; d < args.size; d += kLanes) {
    __m512 k[kCells];
    for (int i = 0; i < kCells; i++) k[i] = load_half(args.k + (cell + i) * args.k_stride + d * 2);
    for (int r = 0; r < Rows; r++) {
      const __m512 q = _mm512_loadu_ps(args.q + (row + r) * args.q_stride + d * sizeof(float));
      for (int i = 0; i < kCells; i++) sums[r * kCells + i] = _mm512_fmadd_ps(q, k[i], sums[r * kCells + i]);
    }
  }
  __m512i lines[kLanes];
  for (int i = 0; i < kLanes; i++) lines[i] = _mm512_castps_si512(sums[i]);
  transpose_16x16(lines);
  __m512 total = _mm512_castsi512_ps(lines[0]);
  for (int i = 1; i < kLanes; i++) total = _mm512_add_ps(total, _mm512_castsi512_ps(lines[i]));
  return total;
}

/// Transposes 16 elements of 16 cells of k that begin at `from`: to[d * 16 + i] is element d of cell i.
void transpose_cells(const char* from, size_t stride, float* to) {
  __m512i lines[kLanes];
  for (int i = 0; i < kLanes; i++) lines[i] = _mm512_castps_si512(load_half(from + i * stride));
  transpose_16x16(lines);
  for (int d = 0; d < kLanes; d++) _mm512_storeu_si512(to + d * kLanes, lines[d]);
}

/// The scores of Rows rows and 16 cells that transpose_cells() has transposed, [size, 16]. They are bit-identical to
/// those of scores_of(), because the order of the sums is the same.
template <int Rows>
void transposed_scores(const AttentionArgs& args, int64_t row, const float* transposed, float* scores) {
  __m512 totals[Rows];
  for (auto& total : totals) total = _mm512_setzero_ps();
  for (int lane = 0; lane < kLanes; lane++) {
    __m512 sums[Rows];
    for (auto& sum : sums) sum = _mm512_setzero_ps();
    for (int64_t d = lane; d < args.size; d += kLanes) {
      const __m512 k = _mm512_loadu_ps(transposed + d * kLanes);
      for (int r = 0; r < Rows; r++) {
        const auto* q = reinterpret_cast<const float*>(args.q + (row + r) * args.q_stride);
        sums[r] = _mm512_fmadd_ps(_mm512_set1_ps(q[d]), k, sums[r]);
      }
    }
    for (int r = 0; r < Rows; r++) totals[r] = lane == 0 ? sums[r] : _mm512_add_ps(totals[r], sums[r]);
  }
  for (int r = 0; r < Rows; r++) _mm512_storeu_ps(scores + r * args.cells, totals[r]);
}

/// End of the cells that any of the rows sees, rounded up to a multiple of 16.
int64_t visible_end(const AttentionArgs& args, int64_t row, int rows) {
  if (args.mask == nullptr) return args.cells;
  for (int64_t end = args.cells; end > 0; end -= kLanes) {
    for (int r = 0; r < rows; r++) {
      const auto* mask =
          reinterpret_cast<const __m256i*>(args.mask + (row + r) * args.mask_stride + (end - kLanes) * 2);
      if (_mm256_cmpneq_epi16_mask(_mm256_loadu_si256(mask), _mm256_set1_epi16(static_cast<short>(0xfc00))) != 0) {
        return end;
      }
    }
  }
  return 0;
}

/// Turns scores into softmax weights in place, before the division by their sum, which is returned. The lane of the sum
/// that a visible cell goes to depends on how many visible cells precede it, not on where it lies, because a
/// candidate's cells lie elsewhere. `seen` [end + 16] is scratch memory.
float softmax_weights(const AttentionArgs& args, int64_t row, float* scores, int64_t end, float* seen) {
  float largest[kLanes];
  for (float& value : largest) value = kHidden;
  for (int64_t i = 0; i < end; i += kLanes) {
    __m512 score = _mm512_mul_ps(_mm512_loadu_ps(scores + i), _mm512_set1_ps(args.scale));
    if (args.mask != nullptr) {
      const __m512 mask = load_half(args.mask + row * args.mask_stride + i * 2);
      // A hidden cell may hold anything, even NaN.
      const __mmask16 hidden = _mm512_cmp_ps_mask(mask, _mm512_set1_ps(kHidden), _CMP_EQ_OQ);
      score = _mm512_mask_mov_ps(_mm512_add_ps(score, mask), hidden, _mm512_set1_ps(kHidden));
    }
    _mm512_storeu_ps(scores + i, score);
    _mm512_storeu_ps(largest, _mm512_max_ps(score, _mm512_loadu_ps(largest)));
  }
  float maximum = largest[0];
  for (const float value : largest) maximum = value > maximum ? value : maximum;
  if (!(maximum > kHidden)) {
    for (int64_t i = 0; i < end; i++) scores[i] = 0;
    return 0;
  }
  int64_t count = 0;
  for (int64_t i = 0; i < end; i += kLanes) {
    const __mmask16 visible = _mm512_cmp_ps_mask(_mm512_loadu_ps(scores + i), _mm512_set1_ps(kHidden), _CMP_NEQ_UQ);
    for (int l = 0; l < kLanes; l++) scores[i + l] = exp_of(scores[i + l] - maximum);
    _mm512_storeu_ps(seen + count, _mm512_maskz_compress_ps(visible, _mm512_loadu_ps(scores + i)));
    count += __builtin_popcount(visible);
  }
  _mm512_storeu_ps(seen + count, _mm512_setzero_ps());
  __m512 total = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += kLanes) total = _mm512_add_ps(total, _mm512_loadu_ps(seen + i));
  float sums[kLanes];
  _mm512_storeu_ps(sums, total);
  float sum = sums[0];
  for (int l = 1; l < kLanes; l++) sum += sums[l];
  return sum;
}

/// Bit mask of the cells, out of 16, that have a positive weight in any of the rows. The others may hold anything, even
/// NaN.
template <int Rows>
uint32_t cells_with_weight(const float* weights, int64_t stride, int64_t cell) {
  uint32_t any = 0;
  for (int r = 0; r < Rows; r++) {
    any |= _mm512_cmp_ps_mask(_mm512_loadu_ps(weights + r * stride + cell), _mm512_setzero_ps(), _CMP_GT_OQ);
  }
  return any;
}

/// Multiplies the weights [Rows, cells] by the values, 64 elements of the head at a time, and divides by the sums.
template <int Rows>
void weighted_values(const AttentionArgs& args, int64_t row, const float* weights, const float* sums, int64_t end) {
  constexpr int kParts = 4;
  for (int64_t d = 0; d < args.size; d += kParts * kLanes) {
    const int parts = static_cast<int>((args.size - d) / kLanes < kParts ? (args.size - d) / kLanes : kParts);
    __m512 total[Rows][kParts];
    for (auto& of_row : total) {
      for (auto& part : of_row) part = _mm512_setzero_ps();
    }
    for (int64_t cell = 0; cell < end; cell += kLanes) {
      for (uint32_t any = cells_with_weight<Rows>(weights, args.cells, cell); any != 0; any &= any - 1) {
        const int64_t i = cell + __builtin_ctz(any);
        const char* v = args.v + i * args.v_stride + d * 2;
        for (int p = 0; p < kParts; p++) {
          if (p >= parts) break;
          const __m512 value = load_half(v + p * kLanes * 2);
          for (int r = 0; r < Rows; r++) {
            total[r][p] = _mm512_fmadd_ps(_mm512_set1_ps(weights[r * args.cells + i]), value, total[r][p]);
          }
        }
      }
    }
    for (int r = 0; r < Rows; r++) {
      const __m512 share = _mm512_set1_ps(sums[r] > 0 ? 1.0f / sums[r] : 0.0f);
      auto* out = reinterpret_cast<float*>(args.out + (row + r) * args.out_stride) + d;
      for (int p = 0; p < parts; p++) _mm512_storeu_ps(out + p * kLanes, _mm512_mul_ps(total[r][p], share));
    }
  }
}

/// Computes the results of Rows rows from their scores.
template <int Rows>
void finish(const AttentionArgs& args, int64_t row, float* scores, int64_t end, float* seen) {
  float sums[Rows];
  for (int r = 0; r < Rows; r++) sums[r] = softmax_weights(args, row + r, scores + r * args.cells, end, seen);
  weighted_values<Rows>(args, row, scores, sums, end);
}

template <int Rows>
void attend_rows(const AttentionArgs& args, int64_t row, float* scores, float* seen) {
  constexpr int kCells = kLanes / Rows;
  const int64_t end = visible_end(args, row, Rows);
  for (int64_t cell = 0; cell < end; cell += kCells) {
    float found[kLanes];
    _mm512_storeu_ps(found, scores_of<Rows>(args, row, cell));
    for (int r = 0; r < Rows; r++) {
      for (int i = 0; i < kCells; i++) scores[r * args.cells + cell + i] = found[r * kCells + i];
    }
  }
  finish<Rows>(args, row, scores, end, seen);
}

/// Attention of many rows. Cells are transposed once for all of them.
void attend_transposed(const AttentionArgs& args, float* scratch, float* seen) {
  float* transposed = seen + args.cells + kLanes;
  const int64_t end = visible_end(args, 0, static_cast<int>(args.rows));
  for (int64_t cell = 0; cell < end; cell += kLanes) {
    for (int64_t d = 0; d < args.size; d += kLanes) {
      transpose_cells(args.k + cell * args.k_stride + d * 2, args.k_stride, transposed + d * kLanes);
    }
    int64_t row = 0;
    for (; row + 4 <= args.rows; row += 4)
      transposed_scores<4>(args, row, transposed, scratch + row * args.cells + cell);
    for (; row < args.rows; row++) transposed_scores<1>(args, row, transposed, scratch + row * args.cells + cell);
  }
  int64_t row = 0;
  for (; row + 4 <= args.rows; row += 4) finish<4>(args, row, scratch + row * args.cells, end, seen);
  for (; row < args.rows; row++) finish<1>(args, row, scratch + row * args.cells, end, seen);
}

}  // namespace

bool has_attention() { return true; }

int64_t attention_scratch(int64_t cells, int64_t size) {
  return kAttentionRows * cells + cells + kLanes + kLanes * size;
}

void attend(const AttentionArgs& args, float* scratch) {
  constexpr int64_t kRowsToTranspose = 6;  // with fewer rows transposing the cells does not pay
  float* seen = scratch + kAttentionRows * args.cells;
  if (args.rows >= kRowsToTranspose) return attend_transposed(args, scratch, seen);
  int64_t row = 0;
  for (; row + 4 <= args.rows; row += 4) attend_rows<4>(args, row, scratch, seen);
  for (; row + 2 <= args.rows; row += 2) attend_rows<2>(args, row, scratch, seen);
  if (row < args.rows) attend_rows<1>(args, row, scratch, seen);
}

#else

bool has_attention() { return false; }
int64_t attention_scratch(int64_t, int64_t) { return 0; }
void attend(const AttentionArgs&, float*) {}

#endif

}  // namespace cllm
