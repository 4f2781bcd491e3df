#pragma once

#include <cstddef>
#include <memory>

#include "kernels/advance.h"
#include "kernels/choose.h"
#include "kernels/roll_forward.h"
#include "kernels/verify.h"

namespace cllm {

/// Where the kernels run and their data lives. Everything is in order: a write is seen by the kernels enqueued after
/// it. On the CPU all calls are done when they return; on a GPU they are enqueued on ggml's own stream and nothing
/// waits but wait() and read(). Functions throw std::runtime_error on a device error.
class KernelDevice {
 public:
  virtual ~KernelDevice() = default;
  virtual const char* name() const = 0;
  /// Whether device memory is host memory.
  virtual bool on_host() const = 0;

  /// Device memory, zeroed; freed with the device.
  virtual void* allocate(size_t bytes) = 0;
  /// Memory that the kernels write and the host reads after wait(): the output ring.
  virtual void* allocate_ring(size_t bytes) = 0;
  virtual void write(void* to, const void* from, size_t bytes) = 0;
  virtual void read(void* to, const void* from, size_t bytes) = 0;

  virtual void bias(const BiasArgs& args) = 0;
  virtual void choose(const ChooseArgs& args) = 0;
  virtual void verify(const VerifyArgs& args) = 0;
  virtual void roll_forward(const RollForwardArgs& args) = 0;
  virtual void advance(const AdvanceArgs& args) = 0;

  /// Until all that was enqueued is done, and the ring readable.
  virtual void wait() = 0;
};

std::unique_ptr<KernelDevice> make_cpu_device();
/// In the CUDA binary alone: on `stream` (a cudaStream_t), or on one of its own for null.
std::unique_ptr<KernelDevice> make_cuda_device(void* stream);

/// A device of this binary's own: the GPU on a stream of its own in the CUDA binary, else the CPU.
std::unique_ptr<KernelDevice> make_device();

}  // namespace cllm
