#pragma once

namespace cllm {

// Whether CPU and operating system have the instructions that a set of products needs (product_set.h).
bool has_avx2();         // AVX2, FMA and F16C
bool has_avx_vnni();     // those and AVX-VNNI
bool has_avx512_vnni();  // AVX-512 F, BW, DQ, VL and VNNI
bool has_avx512_bf16();  // those and AVX512-BF16
bool has_neon_dotprod();
bool has_neon_i8mm();

}  // namespace cllm
