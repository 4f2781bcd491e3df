// Builds graphs of llama.cpp for the device loop and gives them memory.
#include <algorithm>
#include <cmath>
#include <new>
#include <set>

#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "llama-model.h"
#include "llama/graph_bridge_impl.h"

namespace cllm {

namespace {

// With one stream, ggml's CPU flash attention reads up to this many rows behind the mask.
constexpr int64_t kMaskTailRows = 64;

// Writes -inf into a mask and behind it.
void hide_all(const ggml_tensor& mask) {
  const size_t size = ggml_nbytes(&mask) + static_cast<size_t>(kMaskTailRows) * mask.nb[1];
  std::vector<char> hidden(size);
  if (mask.type == GGML_TYPE_F16) {
    std::fill_n(reinterpret_cast<uint16_t*>(hidden.data()), size / 2, static_cast<uint16_t>(0xFC00));
  } else {
    std::fill_n(reinterpret_cast<float*>(hidden.data()), size / 4, -INFINITY);
  }
  // ggml_backend_tensor_set refuses to write behind the tensor, so it gets a stand-in that includes the tail.
  ggml_tensor mask_and_tail = mask;
  mask_and_tail.type = GGML_TYPE_I8;
  mask_and_tail.ne[0] = static_cast<int64_t>(size);
  mask_and_tail.ne[1] = mask_and_tail.ne[2] = mask_and_tail.ne[3] = 1;
  mask_and_tail.nb[0] = 1;
  mask_and_tail.nb[1] = mask_and_tail.nb[2] = mask_and_tail.nb[3] = size;
  ggml_backend_tensor_set(&mask_and_tail, hidden.data(), 0, size);
}

}  // namespace

SequenceBatch::SequenceBatch(int first_lane, int lanes, int tokens, int first_position)
    : token(static_cast<size_t>(lanes) * tokens, 0),
      n_seq_id(token.size(), 1),
      seq_idx(LLAMA_MAX_SEQ, -1),
      output(token.size(), 1) {
  for (int b = 0; b < lanes; b++) {
    seq_id_unq.push_back(first_lane + b);
    seq_idx[static_cast<size_t>(first_lane + b)] = b;
    for (int j = 0; j < tokens; j++) {
      pos.push_back(first_position + j);
      seq_id_data.push_back(first_lane + b);
    }
  }
  for (auto& id : seq_id_data) seq_id.push_back(&id);
  view = {};
  view.b_equal_seqs = 1;
  view.n_tokens = static_cast<uint32_t>(token.size());
  view.n_seq_tokens = static_cast<uint32_t>(tokens);
  view.n_seqs = static_cast<uint32_t>(lanes);
  view.n_seqs_unq = static_cast<uint32_t>(lanes);
  view.n_pos = 1;
  view.token = token.data();
  view.pos = pos.data();
  view.n_seq_id = n_seq_id.data();
  view.seq_id = seq_id.data();
  view.seq_id_unq = seq_id_unq.data();
  view.seq_idx = seq_idx.data();
  view.output = output.data();
}

llama_kv_cache::slot_info cells_of(const llama_kv_cache& cache, int first_lane, const std::vector<int>& first,
                                   int count) {
  llama_kv_cache::slot_info info;
  info.s0 = static_cast<uint32_t>(first_lane);
  info.s1 = static_cast<uint32_t>(first_lane + static_cast<int>(first.size()) - 1);
  info.resize(first.size());
  for (size_t b = 0; b < first.size(); b++) {
    info.strm[b] = static_cast<llama_seq_id>(info.s0 + b);
    for (int i = 0; i < count; i++) info.idxs[b].push_back(static_cast<uint32_t>(first[b] + i) % cache.get_size());
  }
  return info;
}

std::vector<ggml_tensor*> InputTensors::masks() const {
  std::vector<ggml_tensor*> list;
  for (ggml_tensor* mask : {full.mask, windowed.mask}) {
    if (mask != nullptr) list.push_back(mask);
  }
  return list;
}

std::vector<ggml_tensor*> InputTensors::all_but_masks() const {
  std::vector<ggml_tensor*> list;
  const auto add = [&list](std::initializer_list<ggml_tensor*> tensors) {
    for (ggml_tensor* tensor : tensors) {
      if (tensor != nullptr) list.push_back(tensor);
    }
  };
  add({tokens, pos, states, out_ids});
  for (const AttentionTensors& in : {full, windowed}) add({in.k_idxs, in.v_idxs, in.k_rot, in.v_rot});
  return list;
}

PassMemory GraphBridge::Impl::all_cells() const {
  PassMemory pass;
  llama_memory_i* memory = context->get_memory();
  if (auto* hybrid = dynamic_cast<llama_memory_hybrid*>(memory)) {
    auto all = std::make_unique<llama_memory_hybrid_context>(hybrid);
    pass.full = all->get_attn();
    pass.context = std::move(all);
  } else if (auto* hybrid_iswa = dynamic_cast<llama_memory_hybrid_iswa*>(memory)) {
    auto all = std::make_unique<llama_memory_hybrid_iswa_context>(hybrid_iswa);
    pass.full = all->get_attn()->get_base();
    pass.windowed = all->get_attn()->get_swa();
    pass.context = std::move(all);
  } else if (auto* iswa = dynamic_cast<llama_kv_cache_iswa*>(memory)) {
    auto all = std::make_unique<llama_kv_cache_iswa_context>(iswa);
    pass.full = all->get_base();
    pass.windowed = all->get_swa();
    pass.context = std::move(all);
  } else {
    auto all = std::make_unique<llama_kv_cache_context>(full);
    pass.full = all.get();
    pass.context = std::move(all);
  }
  return pass;
}

PassMemory GraphBridge::Impl::claiming(int first_lane, const SequenceBatch& batch) const {
  PassMemory pass;
  llama_memory_i* memory = context->get_memory();
  const std::vector<int> positions(batch.pos.begin(), batch.pos.end());
  const llama_kv_cache::slot_info_vec_t slots{cells_of(*full, first_lane, positions, 1)};
  llama_kv_cache::slot_info_vec_t windowed_slots;
  if (windowed != nullptr) windowed_slots.push_back(cells_of(*windowed, first_lane, positions, 1));
  const std::vector<llama_ubatch> batches{batch.view};
  if (auto* hybrid = dynamic_cast<llama_memory_hybrid*>(memory)) {
    auto claim = std::make_unique<llama_memory_hybrid_context>(hybrid, slots, batches);
    pass.full = claim->get_attn();
    pass.context = std::move(claim);
  } else if (auto* hybrid_iswa = dynamic_cast<llama_memory_hybrid_iswa*>(memory)) {
    auto claim = std::make_unique<llama_memory_hybrid_iswa_context>(hybrid_iswa, slots, windowed_slots, batches);
    pass.full = claim->get_attn()->get_base();
    pass.windowed = claim->get_attn()->get_swa();
    pass.context = std::move(claim);
  } else if (auto* iswa = dynamic_cast<llama_kv_cache_iswa*>(memory)) {
    auto claim = std::make_unique<llama_kv_cache_iswa_context>(iswa, slots, windowed_slots, batches);
    pass.full = claim->get_base();
    pass.windowed = claim->get_swa();
    pass.context = std::move(claim);
  } else {
    auto claim = std::make_unique<llama_kv_cache_context>(full, slots, batches);
    pass.full = claim.get();
    pass.context = std::move(claim);
  }
  if (recurrent == nullptr) {
    pass.context->apply();
    return pass;
  }
  // The recurrent part has nothing to claim: each lane's state has its cell. But only llama.cpp's search for cells says
  // which ones the graph is for, and it believes that a pass has come.
  const auto cells = recurrent->cells;
  for (size_t b = 0; b < positions.size(); b++) {
    recurrent->cells[static_cast<size_t>(first_lane) + b].pos = positions[b] - 1;
  }
  pass.context->apply();
  recurrent->cells = cells;
  return pass;
}

std::unique_ptr<CachedGraph> GraphBridge::Impl::build(const PassShape& shape, int first_lane,
                                                      const PassMemory& memory) {
  auto cached = std::make_unique<CachedGraph>();
  cached->shape = shape;
  cached->first_lane = first_lane;
  cached->cells = {memory.full->get_n_kv(), memory.windowed != nullptr ? memory.windowed->get_n_kv() : 0};
  const llama_model& model = context->get_model();
  SequenceBatch batch(first_lane, shape.lanes, shape.candidates * shape.block);
  cached->result = std::make_unique<llm_graph_result>(context->graph_max_nodes(batch.view.n_tokens));
  const llm_graph_params params = {
      .arch = model.arch,
      .hparams = model.hparams,
      .cparams = context->get_cparams(),
      .ubatch = batch.view,
      .gtype = LLM_GRAPH_TYPE_DEFAULT,
      .sched = context->get_sched(),
      .backend_cpu = nullptr,  // used only without offload_kqv
      .cvec = &no_control_vector,
      .loras = &no_loras,
      .mctx = memory.context.get(),
      .cross = &no_cross,
      .samplers = {},
      .n_outputs = batch.view.n_tokens,
      .cb =
          [](const llama_ubatch&, ggml_tensor* tensor, const char* name, int layer) {
            if (layer >= 0) {
              ggml_format_name(tensor, "%s-%d", name, layer);
            } else {
              ggml_set_name(tensor, name);
            }
          },
      .res = cached->result.get(),
  };
  if (model.build_graph(params) == nullptr) return nullptr;
  return cached;
}

// The inputs get a buffer of their own, because the allocator would reuse their memory after their last use. The masks
// come last, each with -inf behind it.
std::string GraphBridge::Impl::place(CachedGraph& cached) {
  ggml_backend_buffer_type_t type = ggml_backend_get_default_buffer_type(backend);
  const size_t alignment = ggml_backend_buft_get_alignment(type);
  const auto padded = [&](const ggml_tensor* tensor) {
    return (ggml_backend_buft_get_alloc_size(type, tensor) + alignment - 1) / alignment * alignment;
  };
  const auto tail = [&](const ggml_tensor* mask) {
    return (static_cast<size_t>(kMaskTailRows) * mask->nb[1] + alignment - 1) / alignment * alignment;
  };
  size_t size = 0;
  for (const ggml_tensor* tensor : cached.tensors.all_but_masks()) size += padded(tensor);
  for (const ggml_tensor* mask : cached.tensors.masks()) size += padded(mask) + tail(mask);
  cached.input_buffer.reset(ggml_backend_buft_alloc_buffer(type, size));
  if (!cached.input_buffer) return "no memory for its inputs";
  ggml_tallocr inputs = ggml_tallocr_new(cached.input_buffer.get());
  for (ggml_tensor* tensor : cached.tensors.all_but_masks()) {
    if (ggml_tallocr_alloc(&inputs, tensor) != GGML_STATUS_SUCCESS) return "no memory for its inputs";
  }
  for (ggml_tensor* mask : cached.tensors.masks()) {
    if (ggml_tallocr_alloc(&inputs, mask) != GGML_STATUS_SUCCESS) return "no memory for its inputs";
    inputs.offset += tail(mask);
  }
  for (ggml_tensor* tensor : cached.tensors.same_tokens) {
    tensor->buffer = cached.tensors.tokens->buffer;
    tensor->data = cached.tensors.tokens->data;
  }

  const size_t size_before = ggml_gallocr_get_buffer_size(allocator.get(), 0);
  if (!ggml_gallocr_alloc_graph(allocator.get(), cached.result->get_gf())) return "no memory for its graph";
  // The allocator grows by replacing its buffer, so the graphs that were placed in the old one are invalid now.
  if (ggml_gallocr_get_buffer_size(allocator.get(), 0) != size_before) {
    graphs.clear();
    epoch++;
  }
  // Without a uid ggml-cuda would compare all nodes before every replay of a captured graph.
  cached.result->get_gf()->uid = ggml_graph_next_uid();
  write_constants(cached);
  describe(cached);
  return "";
}

// Constants are the inputs that no iteration changes: which rows have outputs (all), rotation matrices of quantised
// caches, the last part of M-RoPE's positions, and -inf in the masks and behind them.
void GraphBridge::Impl::write_constants(CachedGraph& cached) {
  const InputTensors& in = cached.tensors;
  if (in.out_ids != nullptr) {
    std::vector<int32_t> ids(static_cast<size_t>(in.out_ids->ne[0]));
    for (size_t r = 0; r < ids.size(); r++) ids[r] = static_cast<int32_t>(r);
    ggml_backend_tensor_set(in.out_ids, ids.data(), 0, ggml_nbytes(in.out_ids));
  }
  if (in.pos != nullptr) ggml_backend_tensor_memset(in.pos, 0, 0, ggml_nbytes(in.pos));
  const auto set_rotation = [&](ggml_tensor* target, auto set_on_host) {
    if (target == nullptr) return;
    // set_input_*_rot writes only to host memory.
    ggml_tensor host = *target;
    const BufferPointer buffer(ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), ggml_nbytes(target)));
    if (!buffer) throw std::bad_alloc();
    host.buffer = buffer.get();
    host.data = ggml_backend_buffer_get_base(buffer.get());
    set_on_host(&host);
    ggml_backend_tensor_set(target, host.data, 0, ggml_nbytes(target));
  };
  for (const auto& [cache, tensors] : {std::pair(full, &in.full), std::pair(windowed, &in.windowed)}) {
    set_rotation(tensors->k_rot, [cache](ggml_tensor* host) { cache->set_input_k_rot(host); });
    set_rotation(tensors->v_rot, [cache](ggml_tensor* host) { cache->set_input_v_rot(host); });
  }
  for (const ggml_tensor* mask : in.masks()) hide_all(*mask);
}

void GraphBridge::Impl::describe(CachedGraph& cached) const {
  const InputTensors& in = cached.tensors;
  const bool transposed = !context->get_cparams().flash_attn;
  GraphInputs& inputs = cached.graph.inputs;
  inputs.tokens = static_cast<Token*>(in.tokens->data);
  if (in.pos != nullptr) {
    inputs.positions = static_cast<int32_t*>(in.pos->data);
    inputs.position_parts = static_cast<int32_t>(in.pos->ne[0] / cached.shape.rows());
  }
  inputs.first_stream = cached.first_lane;
  const auto describe_attention = [&](AttentionInputs& to, const AttentionTensors& from, const llama_kv_cache& cache,
                                      int64_t n_kv) {
    to.k_rows = static_cast<int64_t*>(from.k_idxs->data);
    to.v_rows = static_cast<int64_t*>(from.v_idxs->data);
    to.mask = from.mask->data;
    to.mask_f16 = from.mask->type == GGML_TYPE_F16;
    to.n_kv = n_kv;
    to.kv_size = cache.get_size();
    to.v_width = transposed ? from.v_idxs->ne[0] / cached.shape.rows() : 0;
  };
  describe_attention(inputs.full, in.full, *full, cached.cells.full);
  if (windowed != nullptr) {
    describe_attention(inputs.windowed, in.windowed, *windowed, cached.cells.windowed);
    inputs.windowed.window = window;
  }
  if (recurrent != nullptr) {
    inputs.states = {.rows = static_cast<int32_t*>(in.states->data),
                     .lanes = static_cast<int32_t>(recurrent->size),
                     .spare_plane = static_cast<int32_t>(recurrent->n_rs_seq)};
  }
  cached.graph.logits = static_cast<float*>(cached.result->t_logits->data);
  cached.graph.logits_stride = static_cast<int64_t>(cached.result->t_logits->nb[1] / sizeof(float));
}

void GraphBridge::Impl::collect_tensors() {
  const ggml_init_params params = {.mem_size = 4 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true};
  const bool transposed = !context->get_cparams().flash_attn;
  std::set<const void*> seen;  // layers may share a cache
  const auto add = [&](const ggml_tensor* view, bool columns) {
    const ggml_tensor* base = view->view_src;
    if (!seen.insert(base->data).second) return;
    KvTensor tensor;
    tensor.data = static_cast<char*>(base->data);
    if (columns) {
      tensor.element_bytes = static_cast<int32_t>(ggml_type_size(base->type));
      tensor.width = static_cast<int32_t>(base->ne[0]);
    } else {
      tensor.row_bytes = static_cast<int64_t>(ggml_row_size(base->type, base->ne[0]));
    }
    kv_tensors.push_back(tensor);
  };
  for (llama_kv_cache* cache : {full, windowed}) {
    if (cache == nullptr) continue;
    const llama_kv_cache_context memory(cache);
    for (const uint32_t layer : cache->get_layer_ids()) {
      const GgmlContextPointer scratch(ggml_init(params));
      add(memory.get_k(scratch.get(), static_cast<int32_t>(layer)), false);
      add(memory.get_v(scratch.get(), static_cast<int32_t>(layer)), transposed);
    }
  }
  if (recurrent == nullptr) return;
  for (const auto* tensors : {&recurrent->r_l, &recurrent->s_l, &recurrent->p_l}) {
    for (const ggml_tensor* tensor : *tensors) {
      if (tensor == nullptr) continue;
      state_tensors.push_back({static_cast<char*>(tensor->data), static_cast<int64_t>(tensor->nb[1])});
    }
  }
}

}  // namespace cllm
