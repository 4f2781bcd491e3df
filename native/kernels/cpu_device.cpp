#include <cstring>
#include <vector>

#include "kernels/device.h"

namespace cllm {

namespace {

class CpuDevice : public KernelDevice {
 public:
  const char* name() const override { return "cpu"; }
  bool on_host() const override { return true; }
  void* allocate(size_t bytes) override {
    // Elements of 64 bits make the memory aligned for every type that the kernels use.
    memory_.push_back(std::make_unique<uint64_t[]>((bytes + 7) / 8));
    return memory_.back().get();
  }
  void* allocate_shared(size_t bytes) override { return allocate(bytes); }
  void write(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void read(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void bias(const BiasArgs& args) override { cllm::bias(args); }
  void choose(const ChooseArgs& args) override { cllm::choose(args); }
  void verify(const VerifyArgs& args) override { cllm::verify(args); }
  void roll_forward(const RollForwardArgs& args) override { cllm::roll_forward(args); }
  void keep_state(const KeepStateArgs& args) override { cllm::keep_state(args); }
  void advance(const AdvanceArgs& args) override { cllm::advance(args); }
  void wait() override {}

 private:
  std::vector<std::unique_ptr<uint64_t[]>> memory_;
};

}  // namespace

std::unique_ptr<KernelDevice> make_cpu_device() { return std::make_unique<CpuDevice>(); }

#if !defined(CLLM_CUDA) && !defined(CLLM_CUDA_HARNESS)
std::unique_ptr<KernelDevice> make_device() { return make_cpu_device(); }
#endif

}  // namespace cllm
