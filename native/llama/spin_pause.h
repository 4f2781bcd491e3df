#pragma once

// CMakeLists.txt includes this header in every file of ggml-cpu (-include), so that its source stays unchanged.
//
// ggml's barriers spin on _mm_pause() until the last thread arrives. When more threads than cores are runnable (two
// decoders at once, a busy service), a spinning thread keeps the core that the late thread needs for a whole time
// slice, at each of a graph's hundreds of barriers. Two decoders of two threads on two cores were measured at 4
// tokens/s instead of 140 / 2. So a thread that has spun for a few microseconds offers its core to others.
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
