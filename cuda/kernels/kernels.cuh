#pragma once

#include <cuda_runtime.h>

#include "kernels/advance.h"
#include "kernels/choose.h"
#include "kernels/roll_forward.h"
#include "kernels/verify.h"

/// native/kernels on a GPU: the same structs, whose pointers are now to device memory, and a stream. The rules (ties,
/// NaN, stop, padding) are those headers'. Launchers enqueue and return; they never wait, and their error is the
/// launch's.
namespace cllm::cuda {

/// Bytes of device memory that choose() needs for its own use, 8-byte aligned. Zeroed before the first call; choose()
/// leaves it zeroed. Not to be shared by calls on different streams.
size_t choose_scratch_bytes(int64_t rows, int64_t vocab);

cudaError_t choose(const ChooseArgs& args, void* scratch, cudaStream_t stream);
/// The part of choose() for lanes with a temperature, whose greedy choices are there.
cudaError_t sample(const ChooseArgs& args, cudaStream_t stream);
cudaError_t bias(const BiasArgs& args, cudaStream_t stream);
cudaError_t verify(const VerifyArgs& args, cudaStream_t stream);
cudaError_t roll_forward(const RollForwardArgs& args, cudaStream_t stream);
cudaError_t advance(const AdvanceArgs& args, cudaStream_t stream);

}  // namespace cllm::cuda
