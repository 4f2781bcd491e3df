#pragma once

// CMakeLists.txt includes this header in every file of ggml-cpu (-include), so that its source stays unchanged.
//
// ggml's threads wait for each other by spinning on _mm_pause(), for as long as it takes. Where another program shares
// the cores, that may be a time slice at each of a graph's hundreds of barriers: two decoders of two threads on two
// cores were measured at 4 tokens/s instead of 140 / 2, because a thread spun on the core that the late thread was
// waiting for. A thread that gives its core away at once loses it for a time slice as often: beside two programs of low
// priority a small model fell to a twentieth of its speed. So a thread spins for much longer than a thread is usually
// late, and sleeps for a moment after that. How many threads there are to wait for is the governor's part
// (native/decode/thread_governor.h).
#if defined(__x86_64__) && defined(__linux__)

#include <immintrin.h>
#include <time.h>

static inline void cllm_spin_pause(void) {
  enum { kOfOneWait = 2000, kLongestSpin = 400000 };  // ticks, about 0.4 ns each
  static __thread unsigned long long last, spun;
  const unsigned long long now = __builtin_ia32_rdtsc(), gap = now - last;
  __builtin_ia32_pause();
  last = now;
  spun = gap < kOfOneWait ? spun + gap : 0;  // a longer gap: a new wait, or the thread was kept from its core
  if (spun < kLongestSpin) return;
  const struct timespec shortest = {0, 1000};
  nanosleep(&shortest, 0);
  spun = 0;
}

#define _mm_pause() cllm_spin_pause()

#endif
