#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "kernels/advance.h"
#include "kernels/choose.h"
#include "kernels/keep_state.h"
#include "kernels/roll_forward.h"
#include "kernels/verify.h"

namespace cllm {

/// What a device does for a burst of iterations that are all the same.
enum class Recorded {
  kNothing,    // every kernel of every iteration is enqueued
  kIteration,  // an iteration is recorded once and enqueued as a whole
  kLoop,       // the loop is recorded and enqueued once per burst; it ends by itself (Loop in advance.h)
};

/// An iteration that KernelDevice::record() has recorded. It must go before its device does.
class Recording {
 public:
  virtual ~Recording() = default;
  /// kIteration or kLoop.
  virtual Recorded kind() const = 0;
  /// Kernels, copies and fills of an iteration.
  virtual size_t nodes() const = 0;
};

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
  /// Zeroed host memory that kernels and host read and write at the same time: the output ring and the loop's limit.
  virtual void* allocate_shared(size_t bytes) = 0;
  virtual void write(void* to, const void* from, size_t bytes) = 0;
  virtual void read(void* to, const void* from, size_t bytes) = 0;

  /// Calls `compute`, which enqueues a forward pass on the device's stream. It may be called later, and again.
  virtual void forward(const std::function<void()>& compute) { compute(); }
  virtual void bias(const BiasArgs& args) = 0;
  virtual void choose(const ChooseArgs& args) = 0;
  /// `verify` alone; `advance` does it too.
  virtual void verify(const VerifyArgs& args) = 0;
  virtual void advance(const AdvanceArgs& args) = 0;
  virtual void roll_forward(const RollForwardArgs& args) = 0;
  virtual void keep_state(const KeepStateArgs& args) = 0;

  /// Records what `iteration` enqueues instead of running it. Its arguments are kept as they are, so their pointers
  /// must stay valid. What it enqueues must have run once before, so that nothing is left to allocate. Returns null
  /// where the device records nothing, or not this iteration; `reason` may then say why.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& /*iteration*/, std::string& /*reason*/) {
    return nullptr;
  }
  /// Enqueues a recorded iteration, or loop. A loop runs its first iteration always, and others as Loop says.
  virtual void launch(const Recording& /*recording*/) {}

  /// Returns when all enqueued work is done.
  virtual void wait() = 0;
  /// Whether all enqueued work is done.
  virtual bool idle() { return true; }
};

std::unique_ptr<KernelDevice> make_cpu_device();
/// A device on `stream` (a cudaStream_t), or on a stream of its own if that is null, which records `recorded` or less.
/// Exists only in the CUDA binary.
std::unique_ptr<KernelDevice> make_cuda_device(void* stream, Recorded recorded);

/// The device that this binary is for: in the CUDA binary the GPU, on a stream of its own, else the CPU.
std::unique_ptr<KernelDevice> make_device();

}  // namespace cllm
