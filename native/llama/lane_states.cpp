#include "llama/lane_states.h"

#include "ggml-backend.h"
#include "llama-context.h"
#include "llama-kv-cache-dsv4.h"
#include "llama-memory-hybrid-idx.h"
#include "llama-memory-hybrid-iswa.h"
#include "llama-memory-hybrid.h"
#include "llama-memory-recurrent.h"

namespace cllm {

std::unique_ptr<LaneStates> LaneStates::of(llama_context* context, int lanes) {
  std::unique_ptr<LaneStates> states(new LaneStates(context, lanes));
  if (states->recurrent_ == nullptr && states->own_ == nullptr) return nullptr;
  return states;
}

LaneStates::LaneStates(llama_context* context, int lanes)
    : snapshots_(static_cast<int>(context->get_cparams().n_rs_seq)), history_(static_cast<size_t>(lanes)) {
  llama_memory_i* memory = context->get_memory();
  const auto take = [this](auto* hybrid) {
    attention_.push_back(hybrid->get_mem_attn());
    recurrent_ = hybrid->get_mem_recr();
  };
  if (auto* hybrid = dynamic_cast<llama_memory_hybrid*>(memory)) {
    take(hybrid);
    auto* indexed = dynamic_cast<llama_memory_hybrid_idx*>(memory);
    if (indexed != nullptr && indexed->get_mem_idx() != nullptr) attention_.push_back(indexed->get_mem_idx());
  } else if (auto* iswa = dynamic_cast<llama_memory_hybrid_iswa*>(memory)) {
    take(iswa);
  } else if (auto* recurrent = dynamic_cast<llama_memory_recurrent*>(memory)) {
    recurrent_ = recurrent;
  } else if (dynamic_cast<llama_kv_cache_dsv4*>(memory) != nullptr) {
    own_ = memory;
  }
  for (int lane = 0; lane < lanes; lane++) keep_in_place(lane);
}

// Gives the lane its cell before its first pass. llama.cpp then finds that the lane has a cell of its own, next to
// those of its neighbours, and neither looks for another one nor puts the cells of a pass in order. A cell without a
// position and a source holds nothing: the pass starts from a zeroed state.
void LaneStates::keep_in_place(int lane) {
  if (recurrent_ == nullptr) return;
  llama_memory_recurrent::mem_cell& cell = recurrent_->cells[static_cast<size_t>(lane)];
  cell.pos = -1;
  cell.src = -1;
  cell.seq_id = {lane};
  cell.tail = lane;
}

void LaneStates::moved(int lane, int first, int position, int plane) {
  history_[static_cast<size_t>(lane)] = {first, position, plane};
  if (recurrent_ == nullptr) return;
  recurrent_->cells[static_cast<size_t>(lane)].pos = position - 1;
  recurrent_->set_rs_idx(lane, static_cast<uint32_t>(plane));
}

bool LaneStates::roll_back(int lane, int keep) {
  const History& history = history_[static_cast<size_t>(lane)];
  if (keep == history.position) return true;
  const int plane = history.plane + history.position - keep;
  if (keep > history.position || keep <= history.first || plane > snapshots_) return false;
  // deepseek4's memory goes back only once between two passes.
  if (own_ != nullptr && (history.plane != 0 || !own_->seq_rm(lane, keep, -1))) return false;
  moved(lane, history.first, keep, plane);
  return true;
}

void LaneStates::cleared(int lane) {
  history_[static_cast<size_t>(lane)] = {};
  keep_in_place(lane);
}

bool LaneStates::copy(int from, int to) {
  if (own_ != nullptr) return false;
  const History& history = history_[static_cast<size_t>(from)];
  for (llama_memory_i* cache : attention_) cache->seq_cp(from, to, -1, -1);
  const auto row = static_cast<size_t>(from) + static_cast<size_t>(history.plane) * recurrent_->size;
  std::vector<char> state;
  for (const auto* tensors : {&recurrent_->r_l, &recurrent_->s_l, &recurrent_->p_l}) {
    for (ggml_tensor* tensor : *tensors) {
      if (tensor == nullptr) continue;
      state.resize(tensor->nb[1]);
      ggml_backend_tensor_get(tensor, state.data(), row * tensor->nb[1], state.size());
      ggml_backend_tensor_set(tensor, state.data(), static_cast<size_t>(to) * tensor->nb[1], state.size());
    }
  }
  recurrent_->cells[static_cast<size_t>(to)].src = to;
  moved(to, history.position - 1, history.position, 0);  // it cannot go back: its other planes hold nothing
  return true;
}

}  // namespace cllm
