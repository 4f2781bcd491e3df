// Packs weights of 16 bits (half_product.h), on every CPU.
#include <cstring>

#include "products/half_product.h"

namespace cllm {

void pack_halves(HalfFormat format, const void* rows, size_t stride, int64_t k, void* packed) {
  const int64_t bytes = format == HalfFormat::kF16 ? 2 : 4;
  auto* to = static_cast<char*>(packed);
  for (int64_t r = 0; r < kHalfRows; r++) {
    const char* row = static_cast<const char*>(rows) + static_cast<size_t>(r) * stride;
    for (int64_t i = 0; i < k * 2 / bytes; i++) std::memcpy(to + (i * kHalfRows + r) * bytes, row + i * bytes, bytes);
  }
}

}  // namespace cllm
