#pragma once

#include <shared_mutex>

namespace cllm {

/// Whoever records a CUDA graph holds this lock shared, and whoever frees a llama.cpp context or a ggml backend holds
/// it alone: a cuBLAS handle must not be destroyed while any thread of the process captures. (ggml-cuda guards its own
/// captures likewise.)
inline std::shared_mutex& capture_lock() {
  static std::shared_mutex lock;
  return lock;
}

}  // namespace cllm
