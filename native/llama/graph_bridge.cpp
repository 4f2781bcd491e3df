// The bridge itself: which rows are claimed, which graphs are kept, and their computation.
#include "llama/graph_bridge.h"

#include <algorithm>

#include "base/limits.h"
#include "ggml-cpu.h"
#include "llama/graph_bridge_impl.h"
#include "llama/packed_buffer.h"
#ifdef CLLM_CUDA
#include "llama/cuda_stream.h"
#endif

namespace cllm {

namespace {

constexpr size_t kMaxGraphs = 16;

}  // namespace

std::unique_ptr<GraphBridge> GraphBridge::create(llama_context* context, ggml_threadpool* pool, std::string& reason) {
  auto impl = std::make_unique<Impl>();
  impl->context = context;
  impl->pool = pool;
  const auto refuse = [&](std::string why) {
    reason = std::move(why);
    return nullptr;
  };
  std::string objection = impl->inspect_context();
  if (!objection.empty()) return refuse(objection);
  impl->allocator.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(impl->backend)));

  // The trial graph spans all streams.
  const PassShape shape{static_cast<int32_t>(impl->full->get_n_stream()), 1, 2};
  const auto trial = impl->build(shape, 0, impl->all_cells());
  if (trial == nullptr) return refuse("llama.cpp builds no graph for it");
  objection = trial->tensors.collect(*trial->result);
  if (objection.empty()) objection = impl->objection_to(*trial);
  if (!objection.empty()) return refuse(objection);
  impl->collect_tensors();
  return std::unique_ptr<GraphBridge>(new GraphBridge(std::move(impl)));
}

GraphBridge::GraphBridge(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GraphBridge::~GraphBridge() = default;

// Whether the cache holds the rows of the lane's positions [first, position), each in its cell, and none behind them.
// The kernels rely on that.
bool GraphBridge::Impl::holds(const llama_kv_cache& cache, int lane, int first, int position) const {
  const llama_kv_cells& cells = cache.get_cells(lane);
  if (cells.seq_pos_max(lane) != position - 1) return false;
  for (int p = first; p < position; p++) {
    const auto cell = static_cast<uint32_t>(p) % cells.size();
    if (cells.is_empty(cell) || cells.pos_get(cell) != p) return false;
  }
  return true;
}

bool GraphBridge::Impl::claim(int lane, int position, int rows) {
  const llama_kv_cells& cells = full->get_cells(lane);
  const auto first = static_cast<uint32_t>(position);
  // A lane is written from cell 0 on and trimmed from its end. So its cells are its positions if the last one is.
  if (cells.used_max_p1() != first || first + static_cast<uint32_t>(rows) > cells.size()) return false;
  if (!holds(*full, lane, std::max(0, position - 1), position)) return false;
  if (windowed != nullptr && !holds(*windowed, lane, window.first_seen(position), position)) return false;
  if (rows == 0) return true;
  const SequenceBatch batch(lane, 1, rows, position);
  for (llama_kv_cache* cache : {full, windowed}) {
    if (cache != nullptr) cache->apply_ubatch(cells_of(*cache, lane, {position}, rows), batch.view);
  }
  return true;
}

CachedGraph* GraphBridge::Impl::find(const PassShape& shape, int first_lane, const AttendedCells& cells) const {
  for (const auto& cached : graphs) {
    if (cached->matches(shape, first_lane, cells)) return cached.get();
  }
  return nullptr;
}

CachedGraph* GraphBridge::Impl::add(const PassShape& shape, int first_lane, const AttendedCells& attended,
                                    std::span<const CellRange> cells, std::string& reason) {
  SequenceBatch batch(first_lane, static_cast<int>(cells.size()), 1);
  for (size_t b = 0; b < cells.size(); b++) batch.pos[b] = cells[b].end - 1;
  auto built = build(shape, first_lane, claiming(first_lane, batch));
  if (built == nullptr || built->cells != attended) {
    reason = "llama.cpp built no graph for " + std::to_string(attended.full) + " cells";
    return nullptr;
  }
  reason = built->tensors.collect(*built->result);
  if (reason.empty()) reason = place(*built);
  if (!reason.empty()) return nullptr;
  if (graphs.size() == kMaxGraphs) {
    epoch++;
    graphs.erase(std::min_element(graphs.begin(), graphs.end(),
                                  [](const auto& a, const auto& b) { return a->last_use < b->last_use; }));
  }
  graphs.push_back(std::move(built));
  return graphs.back().get();
}

ResidentGraph* GraphBridge::prepare(const PassShape& shape, int first_lane, std::span<const CellRange> cells,
                                    std::string& reason) {
  // Applies pending copies between lanes (forks).
  impl_->context->memory_update(false);
  int64_t end = 0;
  for (const CellRange& range : cells) end = std::max<int64_t>(end, range.end);
  const auto attended_in = [end](const llama_kv_cache* cache) {
    return cache == nullptr ? 0 : std::min<int64_t>(cache->get_size(), padded_cells(end));
  };
  const AttendedCells attended{attended_in(impl_->full), attended_in(impl_->windowed)};

  CachedGraph* cached = impl_->find(shape, first_lane, attended);
  // A new graph takes its cells and its streams from a memory context, which must itself claim rows. So the
  // last row of every range is left to it.
  const int rows_left_to_memory = cached == nullptr ? 1 : 0;
  for (size_t b = 0; b < cells.size(); b++) {
    const int rows = cells[b].end - cells[b].first;
    if (!impl_->claim(first_lane + static_cast<int>(b), cells[b].first, rows - rows_left_to_memory)) {
      reason = "a lane's KV rows are not at its positions";
      return nullptr;
    }
  }
  if (cached == nullptr) cached = impl_->add(shape, first_lane, attended, cells, reason);
  if (cached == nullptr) return nullptr;
  cached->last_use = ++impl_->use_count;
  return &cached->graph;
}

GraphBridge::Status GraphBridge::compute(ResidentGraph* graph, int threads) {
  if (impl_->on_cpu) {
    ggml_backend_cpu_set_n_threads(impl_->backend, threads);
    ggml_backend_cpu_set_threadpool(impl_->backend, impl_->pool);
  }
#ifdef CLLM_CUDA
  if (!impl_->on_cpu) drop_stale_cuda_graphs(impl_->backend, impl_->frees);
#endif
  begin_pass();
  for (const auto& cached : impl_->graphs) {
    if (&cached->graph != graph) continue;
    switch (ggml_backend_graph_compute_async(impl_->backend, cached->result->get_gf())) {
      case GGML_STATUS_SUCCESS: return Status::kOk;
      case GGML_STATUS_ABORTED: return Status::kAborted;
      default: return Status::kFailed;
    }
  }
  return Status::kFailed;
}

int64_t GraphBridge::kv_size() const { return impl_->full->get_size(); }
int64_t GraphBridge::claimable(int position) const {
  const int64_t rows = kv_size() - position;
  if (impl_->windowed == nullptr) return rows;
  return std::min(rows, impl_->windowed->get_size() + int64_t{impl_->window.first_seen(position)} - position);
}
const std::vector<KvTensor>& GraphBridge::kv_tensors() const { return impl_->kv_tensors; }
const std::vector<StateTensor>& GraphBridge::state_tensors() const { return impl_->state_tensors; }
bool GraphBridge::flash_attention() const { return impl_->context->get_cparams().flash_attn; }
bool GraphBridge::on_cpu() const { return impl_->on_cpu; }
uint64_t GraphBridge::epoch() const { return impl_->epoch; }
std::unique_ptr<KernelDevice> GraphBridge::make_device() const {
#ifdef CLLM_CUDA
  if (!impl_->on_cpu) return make_cuda_device(cuda_stream_of(impl_->backend), recorded_by_choice());
#endif
  return make_cpu_device();
}
uint64_t GraphBridge::frees() const {
#ifdef CLLM_CUDA
  return cuda_frees();
#else
  return 0;
#endif
}

}  // namespace cllm
