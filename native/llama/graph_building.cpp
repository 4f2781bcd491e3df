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

llama_kv_cache::slot_info cells_of(int first_lane, const std::vector<uint32_t>& first_cells, uint32_t count) {
  llama_kv_cache::slot_info info;
  info.s0 = static_cast<uint32_t>(first_lane);
  info.s1 = static_cast<uint32_t>(first_lane + static_cast<int>(first_cells.size()) - 1);
  info.resize(first_cells.size());
  for (size_t b = 0; b < first_cells.size(); b++) {
    info.strm[b] = static_cast<llama_seq_id>(info.s0 + b);
    for (uint32_t i = 0; i < count; i++) info.idxs[b].push_back(first_cells[b] + i);
  }
  return info;
}

std::vector<ggml_tensor*> InputTensors::all_but_mask() const {
  std::vector<ggml_tensor*> list;
  for (ggml_tensor* tensor : {tokens, pos, k_idxs, v_idxs, k_rot, v_rot, out_ids}) {
    if (tensor != nullptr) list.push_back(tensor);
  }
  return list;
}

std::unique_ptr<CachedGraph> GraphBridge::Impl::build(const PassShape& shape, int first_lane,
                                                      const llama_kv_cache_context& memory) {
  auto cached = std::make_unique<CachedGraph>();
  cached->shape = shape;
  cached->first_lane = first_lane;
  cached->n_kv = memory.get_n_kv();
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
      .mctx = &memory,
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

// The inputs get a buffer of their own, because the allocator would reuse their memory after their last use. The mask
// comes last, with -inf behind it.
std::string GraphBridge::Impl::place(CachedGraph& cached) {
  ggml_backend_buffer_type_t type = ggml_backend_get_default_buffer_type(backend);
  const size_t alignment = ggml_backend_buft_get_alignment(type);
  const auto padded = [&](const ggml_tensor* tensor) {
    return (ggml_backend_buft_get_alloc_size(type, tensor) + alignment - 1) / alignment * alignment;
  };
  ggml_tensor* mask = cached.tensors.mask;
  size_t size = padded(mask) + static_cast<size_t>(kMaskTailRows) * mask->nb[1];
  for (const ggml_tensor* tensor : cached.tensors.all_but_mask()) size += padded(tensor);
  cached.input_buffer.reset(ggml_backend_buft_alloc_buffer(type, size));
  if (!cached.input_buffer) return "no memory for its inputs";
  ggml_tallocr inputs = ggml_tallocr_new(cached.input_buffer.get());
  for (ggml_tensor* tensor : cached.tensors.all_but_mask()) {
    if (ggml_tallocr_alloc(&inputs, tensor) != GGML_STATUS_SUCCESS) return "no memory for its inputs";
  }
  if (ggml_tallocr_alloc(&inputs, mask) != GGML_STATUS_SUCCESS) return "no memory for its inputs";

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
// caches, and -inf in the mask and behind it.
void GraphBridge::Impl::write_constants(CachedGraph& cached) {
  const InputTensors& in = cached.tensors;
  if (in.out_ids != nullptr) {
    std::vector<int32_t> ids(static_cast<size_t>(in.out_ids->ne[0]));
    for (size_t r = 0; r < ids.size(); r++) ids[r] = static_cast<int32_t>(r);
    ggml_backend_tensor_set(in.out_ids, ids.data(), 0, ggml_nbytes(in.out_ids));
  }
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
  set_rotation(in.k_rot, [&](ggml_tensor* host) { cache->set_input_k_rot(host); });
  set_rotation(in.v_rot, [&](ggml_tensor* host) { cache->set_input_v_rot(host); });

  const size_t size = ggml_nbytes(in.mask) + static_cast<size_t>(kMaskTailRows) * in.mask->nb[1];
  std::vector<char> hidden(size);
  if (in.mask->type == GGML_TYPE_F16) {
    std::fill_n(reinterpret_cast<uint16_t*>(hidden.data()), size / 2, static_cast<uint16_t>(0xFC00));
  } else {
    std::fill_n(reinterpret_cast<float*>(hidden.data()), size / 4, -INFINITY);
  }
  // ggml_backend_tensor_set refuses to write behind the tensor, so it gets a stand-in that includes the tail.
  ggml_tensor mask_and_tail = *in.mask;
  mask_and_tail.type = GGML_TYPE_I8;
  mask_and_tail.ne[0] = static_cast<int64_t>(size);
  mask_and_tail.ne[1] = mask_and_tail.ne[2] = mask_and_tail.ne[3] = 1;
  mask_and_tail.nb[0] = 1;
  mask_and_tail.nb[1] = mask_and_tail.nb[2] = mask_and_tail.nb[3] = size;
  ggml_backend_tensor_set(&mask_and_tail, hidden.data(), 0, size);
}

void GraphBridge::Impl::describe(CachedGraph& cached) const {
  const InputTensors& in = cached.tensors;
  const bool transposed = !context->get_cparams().flash_attn;
  GraphInputs& inputs = cached.graph.inputs;
  inputs.tokens = static_cast<Token*>(in.tokens->data);
  inputs.positions = in.pos != nullptr ? static_cast<int32_t*>(in.pos->data) : nullptr;
  inputs.k_rows = static_cast<int64_t*>(in.k_idxs->data);
  inputs.v_rows = static_cast<int64_t*>(in.v_idxs->data);
  inputs.mask = in.mask->data;
  inputs.mask_f16 = in.mask->type == GGML_TYPE_F16;
  inputs.first_stream = cached.first_lane;
  inputs.n_kv = cached.n_kv;
  inputs.kv_size = cache->get_size();
  inputs.v_width = transposed ? in.v_idxs->ne[0] / cached.shape.rows() : 0;
  cached.graph.logits = static_cast<float*>(cached.result->t_logits->data);
  cached.graph.logits_stride = static_cast<int64_t>(cached.result->t_logits->nb[1] / sizeof(float));
}

void GraphBridge::Impl::collect_kv_tensors(const llama_kv_cache_context& memory) {
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
  for (const uint32_t layer : cache->get_layer_ids()) {
    const GgmlContextPointer scratch(ggml_init(params));
    add(memory.get_k(scratch.get(), static_cast<int32_t>(layer)), false);
    add(memory.get_v(scratch.get(), static_cast<int32_t>(layer)), transposed);
  }
}

}  // namespace cllm
