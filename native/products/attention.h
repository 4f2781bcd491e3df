#pragma once

#include <cstddef>
#include <cstdint>

namespace cllm {

/// Attention of some queries of one head (attention_kernel.h). Strides are in bytes from one row to the next.
///
/// out[r] = sum over the cells i that row r sees of softmax(scale * q[r] . k[i] + mask[r][i]) v[i], in F32. A row's
/// result is bit-identical whatever other rows are computed with it, whatever the cells that it does not see hold, and
/// wherever the cells that it sees lie, as long as their order is the same. So the tokens of a block get the results
/// that they would get one by one, in the lane's own rows or in a candidate's.
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
  int64_t size = 0;   // elements of a head, a multiple of 16
  float scale = 1;
};

constexpr int64_t kAttentionLanes = 16;  // elements and cells that are computed together
/// Largest number of rows in one call. The more rows a call has, the less each of them costs.
constexpr int64_t kAttentionRows = 16;
/// Number of floats that it needs as scratch memory.
int64_t attention_scratch(int64_t cells, int64_t size);
using Attend = void(const AttentionArgs& args, float* scratch);

}  // namespace cllm
