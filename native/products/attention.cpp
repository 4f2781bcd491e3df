#include "products/attention.h"

#include <cstdint>
#include <limits>

#include "base/exact_math.h"
#include "products/transpose_16x16.h"

#if defined(CLLM_TRANSPOSE_16X16) && defined(__AVX512BF16__)  // the level of the BF16 products, which it goes with
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

/// q . k of Rows rows and 16 / Rows cells: score of row r, cell i in lane r * 16 / Rows + i. Every score is the sum
/// over lanes, from the first to the last, of products added up along the head.
template <int Rows>
__m512 products(const AttentionArgs& args, int64_t row, int64_t cell) {
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

/// 16 cells of 16 elements of k from `from` on, turned: to[d * 16 + i] is element d of cell i.
void turn(const char* from, size_t stride, float* to) {
  __m512i lines[kLanes];
  for (int i = 0; i < kLanes; i++) lines[i] = _mm512_castps_si512(load_half(from + i * stride));
  transpose_16x16(lines);
  for (int d = 0; d < kLanes; d++) _mm512_storeu_si512(to + d * kLanes, lines[d]);
}

/// The scores of Rows rows and 16 cells that turn() has turned, [size, 16]: the sums of products(), in the same order.
template <int Rows>
void turned_products(const AttentionArgs& args, int64_t row, const float* turned, float* scores) {
  __m512 totals[Rows];
  for (auto& total : totals) total = _mm512_setzero_ps();
  for (int lane = 0; lane < kLanes; lane++) {
    __m512 sums[Rows];
    for (auto& sum : sums) sum = _mm512_setzero_ps();
    for (int64_t d = lane; d < args.size; d += kLanes) {
      const __m512 k = _mm512_loadu_ps(turned + d * kLanes);
      for (int r = 0; r < Rows; r++) {
        const auto* q = reinterpret_cast<const float*>(args.q + (row + r) * args.q_stride);
        sums[r] = _mm512_fmadd_ps(_mm512_set1_ps(q[d]), k, sums[r]);
      }
    }
    for (int r = 0; r < Rows; r++) totals[r] = lane == 0 ? sums[r] : _mm512_add_ps(totals[r], sums[r]);
  }
  for (int r = 0; r < Rows; r++) _mm512_storeu_ps(scores + r * args.cells, totals[r]);
}

/// The cells from which on none of the rows sees any, a multiple of 16.
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

/// Scores to weights, in place. Returns what they are to be divided by. Cells that are seen are added up by how many of
/// them come before, not by where they lie: a candidate's lie elsewhere. `seen` [end + 16] is for its own use.
float soften(const AttentionArgs& args, int64_t row, float* scores, int64_t end, float* seen) {
  float largest[kLanes];
  for (float& value : largest) value = kHidden;
  for (int64_t i = 0; i < end; i += kLanes) {
    __m512 score = _mm512_mul_ps(_mm512_loadu_ps(scores + i), _mm512_set1_ps(args.scale));
    if (args.mask != nullptr) {
      const __m512 mask = load_half(args.mask + row * args.mask_stride + i * 2);
      // A cell that is not seen may hold anything, NaN too.
      const __mmask16 hidden = _mm512_cmp_ps_mask(mask, _mm512_set1_ps(kHidden), _CMP_EQ_OQ);
      score = _mm512_mask_mov_ps(_mm512_add_ps(score, mask), hidden, _mm512_set1_ps(kHidden));
    }
    _mm512_storeu_ps(scores + i, score);
    _mm512_storeu_ps(largest, _mm512_max_ps(score, _mm512_loadu_ps(largest)));
  }
  float most = largest[0];
  for (const float value : largest) most = value > most ? value : most;
  if (!(most > kHidden)) {
    for (int64_t i = 0; i < end; i++) scores[i] = 0;
    return 0;
  }
  int64_t count = 0;
  for (int64_t i = 0; i < end; i += kLanes) {
    const __mmask16 visible = _mm512_cmp_ps_mask(_mm512_loadu_ps(scores + i), _mm512_set1_ps(kHidden), _CMP_NEQ_UQ);
    for (int l = 0; l < kLanes; l++) scores[i + l] = exp_of(scores[i + l] - most);
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

/// Weights times values: 64 elements of the head at a time.
/// Which of 16 cells have a weight in any of the rows. Others may hold anything, NaN too.
template <int Rows>
uint32_t weighed(const float* weights, int64_t stride, int64_t cell) {
  uint32_t any = 0;
  for (int r = 0; r < Rows; r++) {
    any |= _mm512_cmp_ps_mask(_mm512_loadu_ps(weights + r * stride + cell), _mm512_setzero_ps(), _CMP_GT_OQ);
  }
  return any;
}

/// Weights [Rows, cells] times values: 64 elements of the head at a time.
template <int Rows>
void weigh(const AttentionArgs& args, int64_t row, const float* weights, const float* sums, int64_t end) {
  constexpr int kParts = 4;
  for (int64_t d = 0; d < args.size; d += kParts * kLanes) {
    const int parts = static_cast<int>((args.size - d) / kLanes < kParts ? (args.size - d) / kLanes : kParts);
    __m512 total[Rows][kParts];
    for (auto& of_row : total) {
      for (auto& part : of_row) part = _mm512_setzero_ps();
    }
    for (int64_t cell = 0; cell < end; cell += kLanes) {
      for (uint32_t any = weighed<Rows>(weights, args.cells, cell); any != 0; any &= any - 1) {
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

/// Scores of Rows rows to their results.
template <int Rows>
void finish(const AttentionArgs& args, int64_t row, float* scores, int64_t end, float* seen) {
  float sums[Rows];
  for (int r = 0; r < Rows; r++) sums[r] = soften(args, row + r, scores + r * args.cells, end, seen);
  weigh<Rows>(args, row, scores, sums, end);
}

template <int Rows>
void attend_rows(const AttentionArgs& args, int64_t row, float* scores, float* seen) {
  constexpr int kCells = kLanes / Rows;
  const int64_t end = visible_end(args, row, Rows);
  for (int64_t cell = 0; cell < end; cell += kCells) {
    float found[kLanes];
    _mm512_storeu_ps(found, products<Rows>(args, row, cell));
    for (int r = 0; r < Rows; r++) {
      for (int i = 0; i < kCells; i++) scores[r * args.cells + cell + i] = found[r * kCells + i];
    }
  }
  finish<Rows>(args, row, scores, end, seen);
}

/// Many rows: cells are turned once for all of them.
void attend_turned(const AttentionArgs& args, float* scratch, float* seen) {
  float* turned = seen + args.cells + kLanes;
  const int64_t end = visible_end(args, 0, static_cast<int>(args.rows));
  for (int64_t cell = 0; cell < end; cell += kLanes) {
    for (int64_t d = 0; d < args.size; d += kLanes) {
      turn(args.k + cell * args.k_stride + d * 2, args.k_stride, turned + d * kLanes);
    }
    int64_t row = 0;
    for (; row + 4 <= args.rows; row += 4) turned_products<4>(args, row, turned, scratch + row * args.cells + cell);
    for (; row < args.rows; row++) turned_products<1>(args, row, turned, scratch + row * args.cells + cell);
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
  constexpr int64_t kTurned = 6;  // from so many rows on turning pays
  float* seen = scratch + kAttentionRows * args.cells;
  if (args.rows >= kTurned) return attend_turned(args, scratch, seen);
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
