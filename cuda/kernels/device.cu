// The CUDA kernels as a KernelDevice on one CUDA stream. The device loop uses ggml's own stream, so that kernels and
// graphs run in the order in which they are enqueued; other users get a stream of their own.
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/kernels/check.cuh"
#include "cuda/kernels/kernels.cuh"
#include "kernels/device.h"

namespace cllm {

namespace {

void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // clears an error that is not sticky, or the next launch would report it
  throw std::runtime_error(std::string("CUDA failed to ") + what + ": " + cudaGetErrorString(error));
}

class CudaDevice : public KernelDevice {
 public:
  explicit CudaDevice(void* stream) : stream_(static_cast<cudaStream_t>(stream)), owns_stream_(stream == nullptr) {
    if (owns_stream_) require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a stream");
  }
  ~CudaDevice() override {
    // Errors are ignored, because at the end of a process the driver may already be gone.
    cudaStreamSynchronize(stream_);
    for (void* memory : memory_) cudaFree(memory);
    for (void* memory : pinned_) cudaFreeHost(memory);
    if (owns_stream_) cudaStreamDestroy(stream_);
  }
  const char* name() const override { return "cuda"; }
  bool on_host() const override { return false; }

  void* allocate(size_t bytes) override {
    void* data = nullptr;
    require(cudaMalloc(&data, bytes == 0 ? 1 : bytes), "allocate memory");
    memory_.push_back(data);
    require(cudaMemsetAsync(data, 0, bytes, stream_), "clear memory");
    return data;
  }
  // Pinned host memory, which kernels write over the bus and the host reads without a copy.
  void* allocate_ring(size_t bytes) override {
    void* host = nullptr;
    require(cudaHostAlloc(&host, bytes == 0 ? 1 : bytes, cudaHostAllocMapped | cudaHostAllocPortable), "pin memory");
    pinned_.push_back(host);
    std::memset(host, 0, bytes);
    return host;  // with unified addressing the GPU uses the same address
  }
  void write(void* to, const void* from, size_t bytes) override {
    // The source is pageable memory, so the call returns only when it has been read.
    require(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copy to the GPU");
  }
  void read(void* to, const void* from, size_t bytes) override {
    require(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "copy from the GPU");
    wait();
  }

  void choose(const ChooseArgs& args) override {
    const size_t bytes = cuda::choose_scratch_bytes(args.rows, args.vocab);
    if (bytes > scratch_bytes_) {
      scratch_ = allocate(bytes);
      scratch_bytes_ = bytes;
    }
    require(cuda::choose(args, scratch_, stream_), "choose");
  }
  void bias(const BiasArgs& args) override { require(cuda::bias(args, stream_), "add the bias"); }
  void verify(const VerifyArgs& args) override { require(cuda::verify(args, stream_), "verify"); }
  void roll_forward(const RollForwardArgs& args) override {
    require(cuda::roll_forward(args, stream_), "roll forward");
  }
  void advance(const AdvanceArgs& args) override { require(cuda::advance(args, stream_), "advance"); }
  void wait() override { require(cudaStreamSynchronize(stream_), "run the kernels"); }

 private:
  cudaStream_t stream_ = nullptr;
  bool owns_stream_;
  std::vector<void*> memory_, pinned_;
  void* scratch_ = nullptr;
  size_t scratch_bytes_ = 0;
};

}  // namespace

std::unique_ptr<KernelDevice> make_cuda_device(void* stream) { return std::make_unique<CudaDevice>(stream); }
std::unique_ptr<KernelDevice> make_device() { return make_cuda_device(nullptr); }

}  // namespace cllm
