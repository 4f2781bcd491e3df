#pragma once

#include <cstddef>
#include <cstdint>

namespace cllm {

/// AMX implementation of panel_product() (bf16_product.h), for Intel's Sapphire Rapids and later: one instruction
/// computes 16 outputs of 16 columns in tile registers. The summation order of an output does not depend on the
/// number of columns here either, but it differs from the order of the AVX512-BF16 implementation.

/// Whether the CPU and the operating system let us use AMX; the environment variable CLLM_AMX=off forbids it. Checked
/// once per process.
bool has_amx();

/// Same contract as panel_product(). It restores the thread's tile configuration, because ggml keeps one of its own.
void amx_panel_product(const uint32_t* packed, int registers, int64_t panels, int64_t pairs, const void* b,
                       size_t b_stride, int64_t columns, float* c, size_t c_stride, bool add);

}  // namespace cllm
