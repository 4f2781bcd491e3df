#pragma once

// Compiled into ggml-cpu by force (CMakeLists.txt), without changing its source.
//
// GCC's _tile_loadconfig() (12 and 13, perhaps others) tells the compiler that it reads 8 of the configuration's 64
// bytes. So what ggml writes to the others is dropped as never read, and its AMX kernels end the process with an
// illegal instruction: all Q4_0 and Q8_0 models on a CPU with AMX.
#if defined(__AMX_TILE__) && defined(__GNUC__)

#include <immintrin.h>

static inline void cllm_tile_loadconfig(const void* config) {
  __asm__ volatile("" : : "r"(config) : "memory");  // whoever has the address may read all of it
  _tile_loadconfig(config);
}

#define _tile_loadconfig cllm_tile_loadconfig

#endif
