#pragma once

// CMakeLists.txt includes this header in every file of ggml-cpu (-include), so that its source stays unchanged.
//
// GCC's _tile_loadconfig() (12 and 13, perhaps others) tells the compiler that it reads only 8 of the configuration's
// 64 bytes. So the compiler drops ggml's writes to the other bytes, and ggml's AMX kernels end the process with an
// illegal instruction. This concerns all Q4_0 and Q8_0 models on a CPU with AMX.
#if defined(__AMX_TILE__) && defined(__GNUC__)

#include <immintrin.h>

static inline void cllm_tile_loadconfig(const void* config) {
  __asm__ volatile("" : : "r"(config) : "memory");  // tells GCC that all of it may be read
  _tile_loadconfig(config);
}

#define _tile_loadconfig cllm_tile_loadconfig

#endif
