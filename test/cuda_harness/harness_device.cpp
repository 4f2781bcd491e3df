// The KernelDevice that runs cuda/kernels/*.cu on the harness. Its memory is host memory, with guards around every
// allocation.
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/kernels/kernels.cuh"
#include "kernels/device.h"

namespace cllm {

namespace {

constexpr size_t kGuard = 256;
// As a float this is 3.4e38, so that a logit read from there wins. As token id or index it is far out of range.
constexpr unsigned char kGuardByte = 0x7f;

class HarnessDevice : public KernelDevice {
 public:
  ~HarnessDevice() override = default;
  const char* name() const override { return "cuda sources on the CPU harness"; }
  bool on_host() const override { return false; }
  void* allocate(size_t bytes) override {
    std::vector<unsigned char>& memory = memory_.emplace_back(bytes + 2 * kGuard + 16, kGuardByte);
    // Like memory of cudaMalloc it is aligned for every access.
    const auto address = reinterpret_cast<uintptr_t>(memory.data() + kGuard);
    unsigned char* data = memory.data() + kGuard + (16 - address % 16) % 16;
    std::memset(data, 0, bytes);
    allocations_.push_back({data, bytes});
    return data;
  }
  void* allocate_ring(size_t bytes) override { return allocate(bytes); }
  void write(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void read(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }

  void choose(const ChooseArgs& args) override {
    const size_t bytes = cuda::choose_scratch_bytes(args.rows, args.vocab);
    if (bytes > scratch_bytes_) {
      scratch_ = allocate(bytes);
      scratch_bytes_ = bytes;
    }
    require(cuda::choose(args, scratch_, nullptr));
    for (size_t i = 0; i < scratch_bytes_; i++) {
      if (static_cast<unsigned char*>(scratch_)[i] != 0) throw std::runtime_error("choose left its scratch dirty");
    }
  }
  void bias(const BiasArgs& args) override { require(cuda::bias(args, nullptr)); }
  void verify(const VerifyArgs& args) override { require(cuda::verify(args, nullptr)); }
  void roll_forward(const RollForwardArgs& args) override { require(cuda::roll_forward(args, nullptr)); }
  void advance(const AdvanceArgs& args) override { require(cuda::advance(args, nullptr)); }

  void wait() override {
    for (const auto& [data, bytes] : allocations_) {
      for (size_t i = 1; i <= kGuard; i++) {
        if (data[-static_cast<std::ptrdiff_t>(i)] != kGuardByte) throw std::runtime_error("written before an array");
      }
      for (size_t i = 0; i < kGuard - 16; i++) {
        if (data[bytes + i] != kGuardByte) throw std::runtime_error("written behind an array");
      }
    }
  }

 private:
  static void require(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error("a launcher returned " + std::to_string(error));
  }

  struct Allocation {
    unsigned char* data;
    size_t bytes;
  };
  std::vector<std::vector<unsigned char>> memory_;
  std::vector<Allocation> allocations_;
  void* scratch_ = nullptr;
  size_t scratch_bytes_ = 0;
};

}  // namespace

std::unique_ptr<KernelDevice> make_device() { return std::make_unique<HarnessDevice>(); }

}  // namespace cllm
