#pragma once

/// Marks a function of a header that CUDA kernels call too.
#ifdef __CUDACC__
#define CLLM_HOST_DEVICE __host__ __device__
#else
#define CLLM_HOST_DEVICE
#endif
