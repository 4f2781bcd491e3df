#pragma once

#include <cstddef>
#include <memory>

#include "kernels/advance.h"
#include "kernels/choose.h"
#include "kernels/roll_forward.h"
#include "kernels/verify.h"

namespace cllm {

/// The device on which the kernels run and their data lives. Calls take effect in order: a kernel sees every write that
/// was enqueued before it. On the CPU a call is done when it returns. On a GPU it is enqueued on ggml's own stream, and
/// only wait() and read() wait for it. Functions throw std::runtime_error on a device error.
class KernelDevice {
 public:
  virtual ~KernelDevice() = default;
  virtual const char* name() const = 0;
  /// Whether device memory is host memory.
  virtual bool on_host() const = 0;

  /// Zeroed device memory, which is freed with the device.
  virtual void* allocate(size_t bytes) = 0;
  /// Memory for the output ring, which the kernels write and the host reads after wait().
  virtual void* allocate_ring(size_t bytes) = 0;
  virtual void write(void* to, const void* from, size_t bytes) = 0;
  virtual void read(void* to, const void* from, size_t bytes) = 0;

  virtual void bias(const BiasArgs& args) = 0;
  virtual void choose(const ChooseArgs& args) = 0;
  virtual void verify(const VerifyArgs& args) = 0;
  virtual void roll_forward(const RollForwardArgs& args) = 0;
  virtual void advance(const AdvanceArgs& args) = 0;

  /// Returns when all enqueued work is done and the ring can be read.
  virtual void wait() = 0;
};

std::unique_ptr<KernelDevice> make_cpu_device();
/// A device on `stream` (a cudaStream_t), or on a stream of its own if that is null. Exists only in the CUDA binary.
std::unique_ptr<KernelDevice> make_cuda_device(void* stream);

/// The device that this binary is for: in the CUDA binary the GPU, on a stream of its own, else the CPU.
std::unique_ptr<KernelDevice> make_device();

}  // namespace cllm
