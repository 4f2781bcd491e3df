#include "llama/window_rows.h"

#include <algorithm>

#include "llama-model.h"
#include "llama/graph_bridge_impl.h"

namespace cllm {

namespace {

llama_kv_cache_iswa* windowed_memory(llama_context* context) {
  llama_memory_i* memory = context->get_memory();
  if (auto* hybrid = dynamic_cast<llama_memory_hybrid_iswa*>(memory)) return hybrid->get_mem_attn();
  return dynamic_cast<llama_kv_cache_iswa*>(memory);
}

}  // namespace

std::unique_ptr<WindowRows> WindowRows::of(llama_context* context, int lanes) {
  llama_kv_cache_iswa* memory = windowed_memory(context);
  if (memory == nullptr || memory->get_swa()->get_size() >= memory->get_base()->get_size()) return nullptr;
  const llama_hparams& hparams = context->get_model().hparams;
  const Window window{static_cast<int32_t>(hparams.n_swa), hparams.swa_type == LLAMA_SWA_TYPE_CHUNKED};
  return std::unique_ptr<WindowRows>(new WindowRows(*memory->get_swa(), window, lanes));
}

WindowRows::WindowRows(llama_kv_cache& cache, Window window, int lanes)
    : cache_(cache), window_(window), first_held_(static_cast<size_t>(lanes), 0) {}

int WindowRows::max_rollback() const { return static_cast<int>(cache_.get_size()) - window_.size; }

bool WindowRows::holds(int lane, int position) const {
  return window_.first_seen(position) >= first_held_[static_cast<size_t>(lane)];
}

void WindowRows::taken(int lane, int end) {
  int& first = first_held_[static_cast<size_t>(lane)];
  first = std::max(first, end - static_cast<int>(cache_.get_size()));
}

// Whether llama.cpp finds the rows that the row at `position` sees. It has forgotten those in whose cells the device
// loop claimed later positions, though nothing may have been written there.
bool WindowRows::in_place(int lane, int position) const {
  const llama_kv_cells& cells = cache_.get_cells(lane);
  for (int seen = window_.first_seen(position); seen < position; seen++) {
    const auto cell = static_cast<uint32_t>(seen) % cache_.get_size();
    if (cells.is_empty(cell) || cells.pos_get(cell) != seen) return false;
  }
  return true;
}

void WindowRows::place_next(int lane, int position) {
  const auto size = static_cast<int>(cache_.get_size());
  const int cell = position % size;
  // llama.cpp begins its search at cell 0 if it seems to have used few cells. So all cells in front of the lane's
  // position count as used; those whose rows are gone are outside of every window that is left.
  if (static_cast<int>(cache_.get_cells(lane).get_used()) < std::min(position, cell) || !in_place(lane, position)) {
    cache_.seq_rm(lane, -1, -1);
    const int count = std::min(position, size);
    const SequenceBatch rows(lane, 1, count, position - count);
    cache_.apply_ubatch(cells_of(cache_, lane, {position - count}, count), rows.view);
  }
  // The search begins behind the last cell that was taken, or at the first one that was given up.
  const SequenceBatch next(lane, 1, 1, position);
  cache_.apply_ubatch(cells_of(cache_, lane, {position}, 1), next.view);
  cache_.seq_rm(lane, position, -1);
}

}  // namespace cllm
