#pragma once

// Private parts of GraphBridge: for native/llama/graph_*.cpp only.

#include <memory>
#include <string>
#include <vector>

#include "base/ggml_pointers.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "llama-adapter.h"
#include "llama-batch.h"
#include "llama-context.h"
#include "llama-graph.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache.h"
#include "llama-memory-hybrid-iswa.h"
#include "llama-memory-hybrid.h"
#include "llama/graph_bridge.h"

namespace cllm {

/// A batch for llama.cpp that owns its arrays: `tokens` tokens of each of `lanes` consecutive sequences, with positions
/// from `first_position` on.
struct SequenceBatch {
  std::vector<llama_token> token;
  std::vector<llama_pos> pos;
  std::vector<int32_t> n_seq_id;
  std::vector<llama_seq_id> seq_id_data;
  std::vector<llama_seq_id*> seq_id;
  std::vector<llama_seq_id> seq_id_unq;
  std::vector<int32_t> seq_idx;
  std::vector<int8_t> output;
  llama_ubatch view;  // points into the arrays

  SequenceBatch(int first_lane, int lanes, int tokens, int first_position = 0);
  SequenceBatch(const SequenceBatch&) = delete;
  SequenceBatch& operator=(const SequenceBatch&) = delete;
};

/// The cells of a cache for the `count` positions of every lane from first_lane on; those of lane first_lane + b begin
/// at first[b].
llama_kv_cache::slot_info cells_of(const llama_kv_cache& cache, int first_lane, const std::vector<int>& first,
                                   int count);

/// The inputs of the layers that share a KV cache. All are null where the graph has no such layers.
struct AttentionTensors {
  ggml_tensor* k_idxs = nullptr;
  ggml_tensor* v_idxs = nullptr;
  ggml_tensor* mask = nullptr;
  ggml_tensor* k_rot = nullptr;
  ggml_tensor* v_rot = nullptr;
};

/// The inputs of a graph that the bridge knows how to write. Those that the graph lacks are null.
struct InputTensors {
  ggml_tensor* tokens = nullptr;
  std::vector<ggml_tensor*> same_tokens;  // further inputs of the same tokens: they get the memory of `tokens`
  ggml_tensor* pos = nullptr;
  AttentionTensors full;
  AttentionTensors windowed;
  ggml_tensor* states = nullptr;
  ggml_tensor* out_ids = nullptr;

  /// Finds the inputs of a graph. Returns why the bridge cannot write them all, or "".
  std::string collect(const llm_graph_result& result);
  std::vector<ggml_tensor*> masks() const;
  /// All inputs that need memory of their own, but for the masks.
  std::vector<ggml_tensor*> all_but_masks() const;

 private:
  std::string take(const llm_graph_input_i& input);
  std::string take(const llm_graph_input_attn_kv& input);
  std::string take(const llm_graph_input_attn_kv_iswa& input);
  std::string take(const llm_graph_input_embd& input);
};

/// The cells that a pass attends to, in layers that see the whole context and in layers with a window.
struct AttendedCells {
  int64_t full = 0;
  int64_t windowed = 0;  // 0: there are no such layers
  bool operator==(const AttendedCells&) const = default;
};

/// llama.cpp's view of a context's memory while a graph is built.
struct PassMemory {
  std::unique_ptr<llama_memory_context_i> context;
  const llama_kv_cache_context* full = nullptr;      // parts of it
  const llama_kv_cache_context* windowed = nullptr;  // null: there are no such layers
};

/// A graph with what it was built for.
struct CachedGraph {
  PassShape shape;
  int first_lane = 0;
  AttendedCells cells;
  uint64_t last_use = 0;
  std::unique_ptr<llm_graph_result> result;
  InputTensors tensors;
  BufferPointer input_buffer;
  ResidentGraph graph;

  bool matches(const PassShape& wanted, int lane, const AttendedCells& attended) const {
    return shape == wanted && first_lane == lane && cells == attended;
  }
};

struct GraphBridge::Impl {
  llama_context* context = nullptr;
  llama_kv_cache* full = nullptr;               // of layers that see the whole context
  llama_kv_cache* windowed = nullptr;           // of layers with a window; null: there are none
  llama_memory_recurrent* recurrent = nullptr;  // null: there are no recurrent layers
  Window window;
  ggml_backend_t backend = nullptr;
  ggml_threadpool* pool = nullptr;
  bool on_cpu = true;
  // llama_context keeps its own adapters private. The following stay empty, because the bridge refuses contexts with
  // adapters.
  llama_adapter_cvec no_control_vector;
  llama_adapter_loras no_loras;
  llama_cross no_cross;
  AllocatorPointer allocator;  // one buffer for the intermediate values of all graphs
  std::vector<std::unique_ptr<CachedGraph>> graphs;
  uint64_t use_count = 0;
  std::vector<KvTensor> kv_tensors;
  std::vector<StateTensor> state_tensors;
  uint64_t epoch = 0;
  uint64_t frees = 0;  // cuda_frees() when ggml's own CUDA graphs were last looked at

  // graph_requirements.cpp. Each returns why the bridge cannot be used, or "".

  /// Looks at model and context, and sets the parts of the memory, `backend` and `on_cpu`.
  std::string inspect_context();
  std::string inspect_memory();
  /// Looks at a graph whose inputs were collected.
  std::string objection_to(const CachedGraph& cached) const;

  // graph_building.cpp

  /// llama.cpp's own stand-in for a pass over all cells of all lanes.
  PassMemory all_cells() const;
  /// A pass over one token of each lane of the batch, whose cells it claims.
  PassMemory claiming(int first_lane, const SequenceBatch& batch) const;
  std::unique_ptr<CachedGraph> build(const PassShape& shape, int first_lane, const PassMemory& memory);
  /// Gives the graph memory, writes its constants and fills its ResidentGraph. Returns why that failed, or "".
  std::string place(CachedGraph& cached);
  void write_constants(CachedGraph& cached);
  void describe(CachedGraph& cached) const;
  void collect_tensors();

  // graph_bridge.cpp

  bool claim(int lane, int position, int rows);
  bool holds(const llama_kv_cache& cache, int lane, int first, int position) const;
  CachedGraph* find(const PassShape& shape, int first_lane, const AttendedCells& cells) const;
  /// Builds and keeps the graph, and claims the last row of every range. Null and `reason` on failure.
  CachedGraph* add(const PassShape& shape, int first_lane, const AttendedCells& attended,
                   std::span<const CellRange> cells, std::string& reason);
};

}  // namespace cllm
