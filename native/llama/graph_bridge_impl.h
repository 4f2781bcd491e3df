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
#include "llama-kv-cache.h"
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

/// `count` consecutive cells of every lane from first_lane on; those of lane first_lane + b begin at first_cells[b].
llama_kv_cache::slot_info cells_of(int first_lane, const std::vector<uint32_t>& first_cells, uint32_t count);

/// The inputs of a graph that the bridge knows how to write. Those that the graph lacks are null.
struct InputTensors {
  ggml_tensor* tokens = nullptr;
  ggml_tensor* pos = nullptr;
  ggml_tensor* k_idxs = nullptr;
  ggml_tensor* v_idxs = nullptr;
  ggml_tensor* mask = nullptr;
  ggml_tensor* k_rot = nullptr;
  ggml_tensor* v_rot = nullptr;
  ggml_tensor* out_ids = nullptr;

  /// Finds the inputs of a graph. Returns why the bridge cannot write them all, or "".
  std::string collect(const llm_graph_result& result);
  std::vector<ggml_tensor*> all_but_mask() const;
};

/// A graph with what it was built for.
struct CachedGraph {
  PassShape shape;
  int first_lane = 0;
  int64_t n_kv = 0;
  uint64_t last_use = 0;
  std::unique_ptr<llm_graph_result> result;
  InputTensors tensors;
  BufferPointer input_buffer;
  ResidentGraph graph;

  bool matches(const PassShape& wanted, int lane, int64_t kv) const {
    return shape == wanted && first_lane == lane && n_kv == kv;
  }
};

struct GraphBridge::Impl {
  llama_context* context = nullptr;
  llama_kv_cache* cache = nullptr;
  ggml_backend_t backend = nullptr;
  int threads = 1;
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
  uint64_t epoch = 0;
  uint64_t frees = 0;  // cuda_frees() when ggml's own CUDA graphs were last looked at

  // graph_requirements.cpp. Each returns why the bridge cannot be used, or "".

  /// Looks at model and context, and sets `cache`, `backend` and `on_cpu`.
  std::string inspect_context();
  /// Looks at a graph whose inputs were collected.
  std::string objection_to(const CachedGraph& cached) const;

  // graph_building.cpp

  std::unique_ptr<CachedGraph> build(const PassShape& shape, int first_lane, const llama_kv_cache_context& memory);
  /// Gives the graph memory, writes its constants and fills its ResidentGraph. Returns why that failed, or "".
  std::string place(CachedGraph& cached);
  void write_constants(CachedGraph& cached);
  void describe(CachedGraph& cached) const;
  void collect_kv_tensors(const llama_kv_cache_context& memory);

  // graph_bridge.cpp

  bool claim(int lane, int position, int rows);
  CachedGraph* find(const PassShape& shape, int first_lane, int64_t n_kv) const;
  /// Builds and keeps the graph, and claims the last row of every range. Null and `reason` on failure.
  CachedGraph* add(const PassShape& shape, int first_lane, int64_t n_kv, std::span<const CellRange> cells,
                   std::string& reason);
};

}  // namespace cllm
