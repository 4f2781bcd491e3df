#pragma once

#include <cstddef>
#include <cstdint>

namespace cllm {

/// Attention of some queries of one head, on a CPU with AVX-512. Strides are in bytes from one row to the next.
///
/// out[r] = sum over the cells i that row r sees of softmax(scale * q[r] . k[i] + mask[r][i]) v[i], in F32. A row's
/// result is the same, to the bit, whatever other rows are computed with it, whatever cells it does not see, and
/// wherever the cells that it sees lie as long as their order is the same: a block of tokens gives what its tokens give
/// one by one, in a lane's own rows or a candidate's.
struct AttentionArgs {
  const char* q = nullptr;  // [rows, size] f32
  size_t q_stride = 0;
  const char* k = nullptr;  // [cells, size] f16
  size_t k_stride = 0;
  const char* v = nullptr;  // [cells, size] f16
  size_t v_stride = 0;
  const char* mask = nullptr;  // [rows, cells] f16, -inf where the row does not see the cell; null: it sees all
  size_t mask_stride = 0;
  char* out = nullptr;  // [rows, size] f32
  size_t out_stride = 0;
  int64_t rows = 0;
  int64_t cells = 0;  // a multiple of 16
  int64_t size = 0;   // of a head, a multiple of 16
  float scale = 1;
};

bool has_attention();
/// rows <= kAttentionRows. The more rows at a time, the less a row costs.
constexpr int64_t kAttentionRows = 16;
/// Floats of attend()'s scratch memory.
int64_t attention_scratch(int64_t cells, int64_t size);
void attend(const AttentionArgs& args, float* scratch);

}  // namespace cllm
