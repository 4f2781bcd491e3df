#pragma once

/// Marks a function in a header that CUDA kernels call as well.
#ifdef __CUDACC__
#define CLLM_HOST_DEVICE __host__ __device__
#else
#define CLLM_HOST_DEVICE
#endif
