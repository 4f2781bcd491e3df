#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/advance.h"
#include "kernels/device.h"
#include "kernels/keep_state.h"
#include "kernels/roll_forward.h"

struct llama_context;
struct ggml_threadpool;

namespace cllm {

/// A llama.cpp graph of fixed shape on a context's own KV cache. Its inputs lie in a buffer of their own, so that they
/// keep their place and their content from one computation to the next. GraphBridge makes it, and it is valid until the
/// bridge's epoch() changes.
struct ResidentGraph {
  GraphInputs inputs;         // pointers into the device's memory; on the CPU that is host memory
  float* logits = nullptr;    // [rows of the pass, vocabulary] f32, in the device's memory, valid after compute()
  int64_t logits_stride = 0;  // in elements
};

/// The bridge to llama.cpp's private headers. It builds graphs through llama_model::build_graph with inputs of our own
/// and computes them on the context's backend without llama_decode. (docs/architecture.md, "The bridge", says how
/// llama.cpp v0.5.0 allows that without a patch.)
///
/// Rules that llama.cpp imposes:
/// - Rows are claimed before a pass writes them, so that llama.cpp's bookkeeping knows them as taken.
/// - Rows claimed beyond a lane's confirmed rows must be removed before llama_decode continues the lane
///   (llama_memory_seq_rm).
/// - The context may not be saved or shifted while rows are claimed.
class GraphBridge {
 public:
  /// Looks at the context and builds a trial graph. Returns null when the context cannot be used this way, and then
  /// `reason` says why. `pool` is for the CPU backend; it may be null and must outlive the bridge.
  static std::unique_ptr<GraphBridge> create(llama_context* context, ggml_threadpool* pool, std::string& reason);
  ~GraphBridge();
  GraphBridge(const GraphBridge&) = delete;
  GraphBridge& operator=(const GraphBridge&) = delete;

  /// Cells of a stream, of layers that see the whole context.
  int64_t kv_size() const;
  /// Rows that may be claimed from `position` on, at most: a window's rows must stay while the lane can go back to
  /// `position`.
  int64_t claimable(int position) const;
  /// The cells [first, end) of a lane's stream, at least one.
  struct CellRange {
    int first;
    int end;
  };
  /// Claims cells[b] for lane first_lane + b and returns the graph for `shape` that attends to all of them. It
  /// writes only those inputs that are constants. `first` is the lane's position: the lane's rows must be at their
  /// positions, its state must be that before `first`, and the cells must be free. A graph is built at its first use;
  /// the 16 last used ones are kept. On failure it returns null and sets `reason`; some cells may be claimed then.
  ResidentGraph* prepare(const PassShape& shape, int first_lane, std::span<const CellRange> cells, std::string& reason);
  /// Changes whenever graphs that were returned have become invalid.
  uint64_t epoch() const;
  /// Changes when device memory is freed, which computations that were recorded before may use: ggml's pool does that
  /// when memory runs out.
  uint64_t frees() const;

  enum class Status { kOk, kAborted, kFailed };
  /// Computes the graph, whose inputs must have been written. On the CPU the graph is computed when this returns; on a
  /// GPU it is enqueued.
  Status compute(ResidentGraph* graph, int threads);

  /// The K and V tensors of all layers, for roll_forward.
  const std::vector<KvTensor>& kv_tensors() const;
  /// The state tensors of all recurrent layers, for keep_state. Empty where there are none.
  const std::vector<StateTensor>& state_tensors() const;
  bool flash_attention() const;
  bool on_cpu() const;
  /// The device on which the graphs run. Its kernels and the graphs run in the order in which they are enqueued.
  std::unique_ptr<KernelDevice> make_device() const;

 private:
  struct Impl;
  explicit GraphBridge(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cllm
