// The CUDA kernels as a KernelDevice on one CUDA stream. The device loop uses ggml's own stream, so that kernels and
// graphs run in the order in which they are enqueued; other users get a stream of their own.
#include <cstring>
#include <exception>
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

/// A CUDA graph of an iteration, or of a WHILE node whose body is one.
class CudaRecording : public Recording {
 public:
  explicit CudaRecording(Recorded kind) : kind_(kind) {}
  ~CudaRecording() override {
    if (instance != nullptr) cudaGraphExecDestroy(instance);
    if (graph != nullptr) cudaGraphDestroy(graph);
  }
  Recorded kind() const override { return kind_; }
  size_t nodes() const override { return count; }

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t instance = nullptr;
  size_t count = 0;

 private:
  Recorded kind_;
};

class CudaDevice : public KernelDevice {
 public:
  CudaDevice(void* stream, Recorded recorded)
      : stream_(static_cast<cudaStream_t>(stream)), owns_stream_(stream == nullptr), recorded_(recorded) {
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
  // Pinned host memory, which kernels read and write over the bus.
  void* allocate_shared(size_t bytes) override {
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
  void keep_state(const KeepStateArgs& args) override { require(cuda::keep_state(args, stream_), "keep a state"); }
  void advance(const AdvanceArgs& args) override { require(cuda::advance(args, condition_, stream_), "advance"); }

  std::unique_ptr<Recording> record(const std::function<void()>& iteration, std::string& reason) override {
    // What cannot be the body of a loop may still be a graph of its own.
    for (const Recorded kind : {Recorded::kLoop, Recorded::kIteration}) {
      if (kind > recorded_) continue;
      try {
        return kind == Recorded::kLoop ? record_loop(iteration) : record_iteration(iteration);
      } catch (const std::exception& error) {
        reason = error.what();
        cudaGetLastError();
      }
    }
    return nullptr;
  }
  void launch(const Recording& recording) override {
    require(cudaGraphLaunch(static_cast<const CudaRecording&>(recording).instance, stream_), "launch a graph");
  }

  void wait() override { require(cudaStreamSynchronize(stream_), "run the kernels"); }
  bool idle() override {
    const cudaError_t state = cudaStreamQuery(stream_);
    if (state == cudaErrorNotReady) return false;
    require(state, "run the kernels");
    return true;
  }

 private:
  // Graphs are always made anew and never updated: an update in place leaves the cluster dimensions of kernels behind
  // (native/llama/cuda_graph_update.cu).
  std::unique_ptr<Recording> record_iteration(const std::function<void()>& iteration) {
    auto recording = std::make_unique<CudaRecording>(Recorded::kIteration);
    require(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "begin a capture");
    end_capture(iteration, recording->graph);
    const cudaGraph_t graph = recording->graph;
    return instantiate(std::move(recording), graph);
  }

  std::unique_ptr<Recording> record_loop(const std::function<void()>& iteration) {
    auto recording = std::make_unique<CudaRecording>(Recorded::kLoop);
    require(cudaGraphCreate(&recording->graph, 0), "make a graph");
    cudaGraphConditionalHandle condition = 0;
    // Every launch begins with the condition at 1.
    require(cudaGraphConditionalHandleCreate(&condition, recording->graph, 1, cudaGraphCondAssignDefault),
            "make a condition");
    cudaGraphNodeParams loop = {};
    loop.type = cudaGraphNodeTypeConditional;
    loop.conditional.handle = condition;
    loop.conditional.type = cudaGraphCondTypeWhile;
    loop.conditional.size = 1;
    cudaGraphNode_t node = nullptr;
    require(cudaGraphAddNode(&node, recording->graph, nullptr, nullptr, 0, &loop), "make a loop");
    const cudaGraph_t body = loop.conditional.phGraph_out[0];
    require(cudaStreamBeginCaptureToGraph(stream_, body, nullptr, nullptr, 0, cudaStreamCaptureModeRelaxed),
            "begin a capture");
    condition_ = condition;
    cudaGraph_t captured = nullptr;  // the body again, which belongs to the graph
    end_capture(iteration, captured);
    return instantiate(std::move(recording), body);
  }

  // Runs the iteration under capture. The capture ends, and `graph` is set, also where the iteration fails.
  void end_capture(const std::function<void()>& iteration, cudaGraph_t& graph) {
    std::exception_ptr failure;
    try {
      iteration();
    } catch (...) {
      failure = std::current_exception();
    }
    condition_ = 0;
    const cudaError_t ended = cudaStreamEndCapture(stream_, &graph);
    if (failure) std::rethrow_exception(failure);
    require(ended, "capture an iteration");
  }

  static std::unique_ptr<Recording> instantiate(std::unique_ptr<CudaRecording> recording, cudaGraph_t iteration) {
    require(cudaGraphGetNodes(iteration, nullptr, &recording->count), "count the nodes of a graph");
    require(cudaGraphInstantiate(&recording->instance, recording->graph, 0), "instantiate a graph");
    return recording;
  }

  cudaStream_t stream_ = nullptr;
  bool owns_stream_;
  Recorded recorded_;
  cudaGraphConditionalHandle condition_ = 0;  // of the loop that is being recorded
  std::vector<void*> memory_, pinned_;
  void* scratch_ = nullptr;
  size_t scratch_bytes_ = 0;
};

}  // namespace

std::unique_ptr<KernelDevice> make_cuda_device(void* stream, Recorded recorded) {
  return std::make_unique<CudaDevice>(stream, recorded);
}
std::unique_ptr<KernelDevice> make_device() { return make_cuda_device(nullptr, Recorded::kLoop); }

}  // namespace cllm
