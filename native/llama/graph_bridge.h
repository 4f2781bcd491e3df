#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/advance.h"
#include "kernels/device.h"
#include "kernels/roll_forward.h"

struct llama_context;
struct ggml_threadpool;

namespace cllm {

/// A llama.cpp graph of fixed shape on a context's own KV cache, its inputs in a buffer of their own, so that they keep
/// their place and their content from one computation to the next. Made by GraphBridge, valid as long as its epoch().
struct ResidentGraph {
  GraphInputs inputs;         // pointers into the device's memory; on the CPU that is host memory
  float* logits = nullptr;    // [rows of the pass, vocabulary] f32, in the device's memory, after a computation
  int64_t logits_stride = 0;  // in elements
};

/// The only code that includes llama.cpp's private headers. It builds graphs through llama_model::build_graph with
/// inputs of our own and computes them on the context's backend without llama_decode. (How llama.cpp v0.5.0 allows that
/// without a patch: docs/architecture.md, "The bridge".)
///
/// Rules, each because of llama.cpp: rows are claimed before a pass writes them, so that llama.cpp's bookkeeping knows
/// them as taken; what is claimed beyond a lane's confirmed rows must be removed (llama_memory_seq_rm) before
/// llama_decode continues the lane; nothing of the context may be saved or shifted while rows are claimed.
class GraphBridge {
 public:
  /// Looks at the context and builds a trial graph. Null when the context cannot be used this way; `reason` then says
  /// why. `threads` and `pool` are for the CPU backend; the pool may be null and must outlive the bridge.
  static std::unique_ptr<GraphBridge> create(llama_context* context, int threads, ggml_threadpool* pool,
                                             std::string& reason);
  ~GraphBridge();
  GraphBridge(const GraphBridge&) = delete;
  GraphBridge& operator=(const GraphBridge&) = delete;

  /// Cells of a stream.
  int64_t kv_size() const;
  /// Cells [first, end) of a lane's stream, at least one.
  struct CellRange {
    int first;
    int end;
  };
  /// Claims cells[b] for lane first_lane + b and returns the graph for `shape` that attends to all of them, its inputs
  /// unwritten but for constants. `first` is the lane's position: the lane's rows must be at their positions and the
  /// cells free. A graph is built at its first use; the last kMaxGraphs stay. Null and `reason` on failure; some cells
  /// may be claimed then.
  ResidentGraph* prepare(const PassShape& shape, int first_lane, std::span<const CellRange> cells, std::string& reason);
  /// Changes whenever graphs that were handed out have become invalid.
  uint64_t epoch() const;

  enum class Status { kOk, kAborted, kFailed };
  /// Computes the graph; its inputs must have been written. On the CPU it is done when this returns; on a GPU enqueued.
  Status compute(ResidentGraph* graph);

  /// K and V of all layers, for roll_forward.
  const std::vector<KvTensor>& kv_tensors() const;
  bool flash_attention() const;
  bool on_cpu() const;
  /// Where the graphs run and their data lives; kernels on it are in order with them.
  std::unique_ptr<KernelDevice> make_device() const;

 private:
  struct Impl;
  explicit GraphBridge(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cllm
