// Comparison of graph inputs with those that llama.cpp would have written.

#include <cstring>

#include "base/ggml_pointers.h"
#include "resident_test.h"

namespace cllm {

namespace {

/// The next pass over `lanes` lanes from `first` on, as llama.cpp describes it.
struct LlamaPass {
  std::vector<llama_token> tokens;
  std::vector<llama_pos> positions;
  std::vector<llama_seq_id> ids, unique;
  std::vector<llama_seq_id*> seq_id;
  std::vector<int32_t> n_seq_id;
  std::vector<int8_t> output;
  llama_ubatch batch{};  // points into the arrays

  LlamaPass(Side& side, int first, int lanes, int n) {
    for (int b = 0; b < lanes; b++) add_lane(side, first + b, n);
    n_seq_id.assign(tokens.size(), 1);
    output.assign(tokens.size(), 1);
    for (auto& id : ids) seq_id.push_back(&id);
    batch.b_equal_seqs = 1;
    batch.n_tokens = static_cast<uint32_t>(tokens.size());
    batch.n_seq_tokens = static_cast<uint32_t>(n);
    batch.n_seqs = batch.n_seqs_unq = static_cast<uint32_t>(lanes);
    batch.n_pos = 1;
    batch.token = tokens.data();
    batch.pos = positions.data();
    batch.n_seq_id = n_seq_id.data();
    batch.seq_id = seq_id.data();
    batch.seq_id_unq = unique.data();
    batch.output = output.data();
  }
  LlamaPass(const LlamaPass&) = delete;

  llama_kv_cache::slot_info slots_of(const llama_kv_cache& cache, int first) const {
    llama_kv_cache::slot_info slots;
    slots.s0 = static_cast<uint32_t>(first);
    slots.s1 = slots.s0 + batch.n_seqs - 1;
    slots.resize(batch.n_seqs);
    for (size_t i = 0; i < positions.size(); i++) {
      const auto b = static_cast<size_t>(ids[i] - first);
      slots.strm[b] = ids[i];
      slots.idxs[b].push_back(static_cast<uint32_t>(positions[i]) % cache.get_size());
    }
    return slots;
  }

 private:
  void add_lane(Side& side, int index, int n) {
    Lane& lane = side.lanes[static_cast<size_t>(index)];
    const LaneState& state = side.resident->device_lane(index).state;
    const auto block = lane.block(n, state.seed, static_cast<DraftMode>(state.draft_mode));
    unique.push_back(index);
    for (int j = 0; j < n; j++) {
      tokens.push_back(block[static_cast<size_t>(j)]);
      positions.push_back(lane.position() + j);
      ids.push_back(index);
    }
  }
};

}  // namespace

void check_inputs(Side& side, int first, int lanes, int n, const std::string& where) {
  const ResidentGraph* graph = side.resident->device_lane(first).graph;
  if (!check(graph != nullptr, where + ": a graph")) return;
  const GraphInputs& inputs = graph->inputs;
  const auto rows = static_cast<size_t>(lanes * n);
  const auto compare = [&](const void* ours, const void* theirs, size_t bytes, const std::string& what) {
    std::vector<char> read(bytes);
    side.resident->device().read(read.data(), ours, bytes);
    check(std::memcmp(read.data(), theirs, bytes) == 0, where + ": " + what + " as llama.cpp's");
  };
  const LlamaPass pass(side, first, lanes, n);
  compare(inputs.tokens, pass.tokens.data(), rows * sizeof(Token), "tokens");
  if (inputs.positions != nullptr) {
    std::vector<int32_t> positions;
    for (int part = 0; part < inputs.position_parts; part++) {
      if (part < 3)
        positions.insert(positions.end(), pass.positions.begin(), pass.positions.end());
      else
        positions.resize(positions.size() + rows, 0);
    }
    compare(inputs.positions, positions.data(), positions.size() * sizeof(int32_t), "positions");
  }
  const auto compare_attention = [&](const AttentionInputs& ours, llama_kv_cache& cache, const std::string& layers) {
    const auto slots = pass.slots_of(cache, first);
    const GgmlContextPointer scratch(
        ggml_init({.mem_size = 16 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    const size_t v_width = static_cast<size_t>(std::max<int64_t>(1, ours.v_width));
    ggml_tensor* k = ggml_new_tensor_1d(scratch.get(), GGML_TYPE_I64, static_cast<int64_t>(rows));
    ggml_tensor* v = ggml_new_tensor_1d(scratch.get(), GGML_TYPE_I64, static_cast<int64_t>(rows * v_width));
    ggml_tensor* mask =
        ggml_new_tensor_4d(scratch.get(), ours.mask_f16 != 0 ? GGML_TYPE_F16 : GGML_TYPE_F32, ours.n_kv, n, 1, lanes);
    const BackendPointer cpu(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
    const BufferPointer buffer(ggml_backend_alloc_ctx_tensors(scratch.get(), cpu.get()));
    cache.set_input_k_idxs(k, &pass.batch, slots);
    cache.set_input_v_idxs(v, &pass.batch, slots);
    cache.set_input_kq_mask(mask, &pass.batch, true);
    compare(ours.k_rows, k->data, rows * sizeof(int64_t), layers + " K rows");
    compare(ours.v_rows, v->data, rows * v_width * sizeof(int64_t), layers + " V rows");
    compare(ours.mask, mask->data, ggml_nbytes(mask), layers + " mask");
  };
  const Caches caches = caches_of(side);
  compare_attention(inputs.full, *caches.full, "full");
  if (caches.windowed != nullptr) compare_attention(inputs.windowed, *caches.windowed, "windowed");
}

}  // namespace cllm
