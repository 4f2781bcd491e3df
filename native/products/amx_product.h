#pragma once

#include <cstddef>
#include <cstdint>

namespace cllm {

/// panel_product() of kernels/bf16_product.h on the tile registers of Intel's AMX (Sapphire Rapids and later): 16
/// outputs of 16 columns in one instruction. Every output is again summed in one order whatever the number of columns,
/// though in another one than AVX512-BF16's.

/// Whether this CPU and this system let us use them; the variable CLLM_AMX=off says no. Asked once per process.
bool has_amx();

/// As panel_product(). The thread's tile configuration is as before afterwards (ggml keeps one of its own).
void amx_panel_product(const uint32_t* packed, int registers, int64_t panels, int64_t pairs, const void* b,
                       size_t b_stride, int64_t columns, float* c, size_t c_stride, bool add);

}  // namespace cllm
