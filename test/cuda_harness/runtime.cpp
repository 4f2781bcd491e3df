// CUDA's memory, streams and graphs on the harness.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda_runtime.h"

struct CudaGraphNode {
  std::function<void()> work;       // of a kernel, copy or fill
  std::unique_ptr<CudaGraph> body;  // of a loop
  cudaGraphConditionalHandle condition = 0;
  cudaGraph_t body_pointer = nullptr;
};
struct CudaGraph {
  std::vector<std::shared_ptr<CudaGraphNode>> nodes;
};
/// An instance keeps the nodes that its graph had.
struct CudaGraphExec {
  CudaGraph graph;
};
struct CudaStream {
  cudaGraph_t into = nullptr;  // the graph into which the stream is captured
  bool owns_graph = false;     // the capture made that graph
  bool invalid = false;        // something that cannot be captured was tried
};

namespace {

constexpr size_t kGuard = 256;
// As a float this is 3.4e38, so that a logit read from there wins. As token id or index it is far out of range.
constexpr unsigned char kGuardByte = 0x7f;

struct Memory {
  std::vector<unsigned char> bytes;
  unsigned char* data = nullptr;
  size_t size = 0;

  const char* damage() const {
    for (size_t i = 1; i <= kGuard; i++) {
      if (data[-static_cast<std::ptrdiff_t>(i)] != kGuardByte) return "written before an array";
    }
    for (size_t i = 0; i < kGuard - 16; i++) {
      if (data[size + i] != kGuardByte) return "written behind an array";
    }
    return nullptr;
  }
};
std::map<void*, Memory> memories;
std::string last_damage;
cudaError_t last_error = cudaSuccess;

struct Condition {
  unsigned initial = 0, value = 0;
  bool in_loop = false;  // its loop is running
};
std::map<cudaGraphConditionalHandle, Condition> conditions;
cudaGraphConditionalHandle next_condition = 1;

cudaError_t report(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t allocate(void** memory, size_t bytes) {
  Memory made;
  made.bytes.assign(bytes + 2 * kGuard + 16, kGuardByte);
  // Like memory of cudaMalloc it is aligned for every access.
  const auto address = reinterpret_cast<uintptr_t>(made.bytes.data() + kGuard);
  made.data = made.bytes.data() + kGuard + (16 - address % 16) % 16;
  made.size = bytes;
  *memory = made.data;
  memories[made.data] = std::move(made);
  return cudaSuccess;
}

void run(const CudaGraph& graph) {
  for (const auto& node : graph.nodes) {
    if (node->body == nullptr) {
      node->work();
      continue;
    }
    Condition& condition = conditions.at(node->condition);
    condition.value = condition.initial;
    condition.in_loop = true;
    while (condition.value != 0) run(*node->body);
    condition.in_loop = false;
  }
}

}  // namespace

namespace cuda_harness {

void enqueue(cudaStream_t stream, std::function<void()> work) {
  if (stream == nullptr || stream->into == nullptr) return work();
  auto node = std::make_shared<CudaGraphNode>();
  node->work = std::move(work);
  stream->into->nodes.push_back(std::move(node));
}

}  // namespace cuda_harness

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorIllegalAddress) return last_damage.c_str();
  return error == cudaErrorStreamCaptureUnsupported ? "operation not permitted when stream is capturing" : "an error";
}
cudaError_t cudaMalloc(void** memory, size_t bytes) { return allocate(memory, bytes); }
cudaError_t cudaFree(void* memory) { return report(memories.erase(memory) != 0 ? cudaSuccess : cudaErrorInvalidValue); }
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned /*flags*/) { return allocate(memory, bytes); }
cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  cuda_harness::enqueue(stream, [=] { std::memset(memory, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind /*kind*/, cudaStream_t stream) {
  cuda_harness::enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned /*flags*/) {
  *stream = new CudaStream();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->into != nullptr) {
    stream->invalid = true;
    return report(cudaErrorStreamCaptureUnsupported);
  }
  for (const auto& [data, memory] : memories) {
    const char* damage = memory.damage();
    if (damage == nullptr) continue;
    last_damage = damage;
    return report(cudaErrorIllegalAddress);
  }
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode /*mode*/) {
  if (stream->into != nullptr) return report(cudaErrorStreamCaptureUnsupported);
  *stream = {.into = new CudaGraph(), .owns_graph = true};
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream, cudaGraph_t graph, const cudaGraphNode_t*,
                                          const cudaGraphEdgeData*, size_t, cudaStreamCaptureMode /*mode*/) {
  if (stream->into != nullptr) return report(cudaErrorStreamCaptureUnsupported);
  *stream = {.into = graph};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const CudaStream captured = std::exchange(*stream, {});
  *graph = captured.into;
  if (captured.into != nullptr && !captured.invalid) return cudaSuccess;
  if (captured.owns_graph) delete captured.into;
  *graph = nullptr;
  return report(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned /*flags*/) {
  *graph = new CudaGraph();
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle* handle, cudaGraph_t /*graph*/,
                                             unsigned default_value, unsigned flags) {
  *handle = next_condition++;
  conditions[*handle].initial = flags == cudaGraphCondAssignDefault ? default_value : 0;
  return cudaSuccess;
}
cudaError_t cudaGraphAddNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t*, const cudaGraphEdgeData*,
                             size_t, cudaGraphNodeParams* params) {
  if (params->type != cudaGraphNodeTypeConditional || params->conditional.type != cudaGraphCondTypeWhile ||
      params->conditional.size != 1 || conditions.count(params->conditional.handle) == 0) {
    return report(cudaErrorInvalidValue);
  }
  auto made = std::make_shared<CudaGraphNode>();
  made->body = std::make_unique<CudaGraph>();
  made->condition = params->conditional.handle;
  made->body_pointer = made->body.get();
  params->conditional.phGraph_out = &made->body_pointer;
  *node = made.get();
  graph->nodes.push_back(std::move(made));
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* /*nodes*/, size_t* count) {
  *count = graph->nodes.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* instance, cudaGraph_t graph, unsigned long long /*flags*/) {
  *instance = new CudaGraphExec{*graph};
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance) {
  delete instance;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream) {
  if (stream->into != nullptr) return report(cudaErrorStreamCaptureUnsupported);
  run(instance->graph);
  return cudaSuccess;
}
void cudaGraphSetConditional(cudaGraphConditionalHandle handle, unsigned value) {
  Condition& condition = conditions.at(handle);
  if (!condition.in_loop) {
    std::printf("FAILED cuda harness: a condition is set outside its loop\n");
    std::fflush(stdout);
    std::_Exit(1);
  }
  condition.value = value;
}
