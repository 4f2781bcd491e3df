#pragma once

namespace cllm {

/// Size of the vectors (GCC's vector_size) that suit the instruction-set level of the file that includes this. With
/// wider vectors GCC computes selections element by element instead of splitting the vector (measured on AVX2: 590 us
/// instead of 23 us for 8 rows of 49152 logits).
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

}  // namespace cllm
