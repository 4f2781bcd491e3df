#pragma once

// Compiled into ggml-cpu by force (CMakeLists.txt), without changing its source.
//
// ggml's barriers spin on _mm_pause() until the last thread arrives. When more threads than cores are runnable (two
// decoders at once, a busy service) a spinning thread keeps the very core that the late thread needs, for a whole time
// slice at every one of some hundred barriers of a graph: measured with two decoders of two threads on two cores, 4
// tokens/s instead of 140 / 2. So after a few microseconds of spinning, offer the core to others.
#if defined(__x86_64__) && defined(__linux__)

#include <immintrin.h>
#include <sched.h>

static inline void cllm_spin_pause(void) {
  static __thread unsigned spins;
  __builtin_ia32_pause();
  if ((++spins & 1023u) == 0) sched_yield();
}

#define _mm_pause() cllm_spin_pause()

#endif
