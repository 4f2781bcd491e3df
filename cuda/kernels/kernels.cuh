#pragma once

#include <cuda_runtime.h>

#include "kernels/advance.h"
#include "kernels/choose.h"
#include "kernels/keep_state.h"
#include "kernels/roll_forward.h"
#include "kernels/verify.h"

/// The kernels of native/kernels on a GPU. They take the same structs, whose pointers are to device memory, and a
/// stream. The headers of native/kernels state their rules (ties, NaN, stop, padding). Launchers enqueue a kernel and
/// return the error of the launch; they never wait.
namespace cllm::cuda {

/// Bytes of device memory that choose() needs as scratch, 8-byte aligned. The caller zeroes it before the first call,
/// and choose() leaves it zeroed. Calls on different streams must not share it.
size_t choose_scratch_bytes(int64_t rows, int64_t vocab);

cudaError_t choose(const ChooseArgs& args, void* scratch, cudaStream_t stream);
/// The part of choose() for lanes with a temperature. args.choices already holds their greedy choices.
cudaError_t sample(const ChooseArgs& args, cudaStream_t stream);
cudaError_t bias(const BiasArgs& args, cudaStream_t stream);
cudaError_t verify(const VerifyArgs& args, cudaStream_t stream);
/// `condition` is that of the WHILE node whose body the kernel is captured into, or 0.
cudaError_t advance(const AdvanceArgs& args, cudaGraphConditionalHandle condition, cudaStream_t stream);
cudaError_t roll_forward(const RollForwardArgs& args, cudaStream_t stream);
cudaError_t keep_state(const KeepStateArgs& args, cudaStream_t stream);

}  // namespace cllm::cuda
