#include "llama/graph_bridge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <set>
#include <typeinfo>

#include "base/ggml_pointers.h"
#include "base/limits.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#ifdef CLLM_CUDA
#include "llama/cuda_stream.h"
#endif
#include "llama-adapter.h"
#include "llama-batch.h"
#include "llama-context.h"
#include "llama-graph.h"
#include "llama-kv-cache.h"
#include "llama-model.h"

namespace cllm {

namespace {

constexpr size_t kMaxGraphs = 16;
// With one stream, ggml's CPU flash attention reads up to this many rows behind the mask.
constexpr int64_t kMaskTailRows = 64;

/// A batch description of our own: `tokens` tokens of each of `lanes` consecutive sequences.
struct Ubatch {
  std::vector<llama_token> token;
  std::vector<llama_pos> pos;
  std::vector<int32_t> n_seq_id;
  std::vector<llama_seq_id> seq_id_data;
  std::vector<llama_seq_id*> seq_id;
  std::vector<llama_seq_id> seq_id_unq;
  std::vector<int32_t> seq_idx;
  std::vector<int8_t> output;
  llama_ubatch view;

  Ubatch(int first_lane, int lanes, int tokens, int first_position = 0)
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
};

llama_kv_cache::slot_info slots(int first_lane, const std::vector<uint32_t>& first_cells, uint32_t count) {
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

/// The inputs of a graph that we know how to write; anything else refuses the model.
struct Inputs {
  ggml_tensor* tokens = nullptr;
  ggml_tensor* pos = nullptr;
  ggml_tensor* k_idxs = nullptr;
  ggml_tensor* v_idxs = nullptr;
  ggml_tensor* mask = nullptr;
  ggml_tensor* k_rot = nullptr;
  ggml_tensor* v_rot = nullptr;
  ggml_tensor* out_ids = nullptr;

  std::string collect(const llm_graph_result& result) {
    for (const auto& input : result.inputs) {
      // Exact classes: a subclass has more to write.
      const llm_graph_input_i& object = *input;
      const auto& type = typeid(object);
      if (type == typeid(llm_graph_input_embd)) {
        tokens = static_cast<const llm_graph_input_embd&>(object).tokens;
      } else if (type == typeid(llm_graph_input_pos)) {
        pos = static_cast<const llm_graph_input_pos&>(object).pos;
      } else if (type == typeid(llm_graph_input_out_ids)) {
        out_ids = static_cast<const llm_graph_input_out_ids&>(object).out_ids;
      } else if (type == typeid(llm_graph_input_attn_kv)) {
        const auto& attention = static_cast<const llm_graph_input_attn_kv&>(object);
        if (mask != nullptr) return "its graph has more than one attention input";
        k_idxs = attention.self_k_idxs;
        v_idxs = attention.self_v_idxs;
        mask = attention.self_kq_mask;
        k_rot = attention.self_k_rot;
        v_rot = attention.self_v_rot;
        if (attention.self_kq_mask_cnv != mask) return "its attention mask is converted inside the graph";
      } else {
        return std::string("its graph has an input of a kind unknown to the bridge (") + type.name() + ")";
      }
    }
    // (No position input is fine: gpt2-like models have one, others may need none.)
    if (tokens == nullptr || k_idxs == nullptr || v_idxs == nullptr || mask == nullptr) {
      return "its graph lacks an input for tokens or attention";
    }
    return "";
  }

  std::vector<ggml_tensor*> all_but_mask() const {
    std::vector<ggml_tensor*> list;
    for (ggml_tensor* tensor : {tokens, pos, k_idxs, v_idxs, k_rot, v_rot, out_ids}) {
      if (tensor != nullptr) list.push_back(tensor);
    }
    return list;
  }
};

struct Cached {
  PassShape shape;
  int first_lane = 0;
  int64_t n_kv = 0;
  uint64_t used = 0;
  std::unique_ptr<llm_graph_result> result;
  Inputs tensors;
  BufferPointer buffer;  // of the inputs
  ResidentGraph graph;

  bool is(const PassShape& s, int lane, int64_t kv) const { return shape == s && first_lane == lane && n_kv == kv; }
};

}  // namespace

struct GraphBridge::Impl {
  llama_context* context = nullptr;
  llama_kv_cache* cache = nullptr;
  ggml_backend_t backend = nullptr;
  int threads = 1;
  ggml_threadpool* pool = nullptr;
  bool cpu = true;
  // llama_context keeps its own of these private. Nothing is ever added to ours: the probe refuses adapters.
  llama_adapter_cvec no_control_vector;
  llama_adapter_loras no_loras;
  llama_cross no_cross;
  AllocatorPointer allocator;  // one buffer for the intermediate values of all graphs
  std::vector<std::unique_ptr<Cached>> graphs;
  uint64_t uses = 0;
  std::vector<KvTensor> tensors;

  uint64_t epoch = 0;

  bool claim(int lane, int position, int rows);
  std::unique_ptr<Cached> build(const PassShape& shape, int first_lane, const llama_kv_cache_context& memory);
  std::string why_not(const Cached& cached) const;
  std::string place(Cached& cached);
  void write_constants(Cached& cached);
  void collect_tensors(const llama_kv_cache_context& memory);
};

// --- claiming rows
// ----------------------------------------------------------------------------------------------------

bool GraphBridge::Impl::claim(int lane, int position, int rows) {
  const llama_kv_cells& cells = cache->get_cells(lane);
  const auto first = static_cast<uint32_t>(position);
  // A lane is written from cell 0 on and trimmed from its end, so its cell is its position; kernels rely on that.
  if (cells.used_max_p1() != first || first + static_cast<uint32_t>(rows) > cells.size()) return false;
  if (position > 0 && (cells.is_empty(first - 1) || cells.pos_get(first - 1) != position - 1)) return false;
  if (rows == 0) return true;
  const Ubatch batch(lane, 1, rows, position);
  cache->apply_ubatch(slots(lane, {first}, static_cast<uint32_t>(rows)), batch.view);
  return true;
}

// --- building a graph
// -------------------------------------------------------------------------------------------------

std::unique_ptr<Cached> GraphBridge::Impl::build(const PassShape& shape, int first_lane,
                                                 const llama_kv_cache_context& memory) {
  auto cached = std::make_unique<Cached>();
  cached->shape = shape;
  cached->first_lane = first_lane;
  cached->n_kv = memory.get_n_kv();
  const llama_model& model = context->get_model();
  Ubatch batch(first_lane, shape.lanes, shape.candidates * shape.block);
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

std::string GraphBridge::Impl::why_not(const Cached& cached) const {
  const ggml_tensor* logits = cached.result->t_logits;
  if (logits == nullptr || logits->type != GGML_TYPE_F32 || logits->nb[0] != sizeof(float) ||
      logits->ne[1] != cached.shape.rows()) {
    return "its graph has no plain logits for every token";
  }
  if (cached.tensors.pos != nullptr && cached.tensors.pos->ne[0] != cached.shape.rows()) {
    return "its positions have more than one part (M-RoPE)";
  }
  const auto foreign = [&](const ggml_tensor* tensor) {
    const ggml_tensor* base = tensor->view_src != nullptr ? tensor->view_src : tensor;
    return base->buffer != nullptr && !ggml_backend_supports_buft(backend, ggml_backend_buffer_get_type(base->buffer));
  };
  ggml_cgraph* graph = cached.result->get_gf();
  for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
    const ggml_tensor* node = ggml_graph_node(graph, i);
    if (!ggml_backend_supports_op(backend, node)) {
      return std::string("the device cannot compute ") + node->name + " (" + ggml_op_desc(node) + ")";
    }
    for (const ggml_tensor* source : node->src) {
      if (source != nullptr && foreign(source)) {
        return std::string(source->name) + " is on another device";
      }
    }
  }
  return "";
}

// The inputs in a buffer of their own (the allocator would give their memory to others after their last use), the mask
// last, with -inf behind it.
std::string GraphBridge::Impl::place(Cached& cached) {
  ggml_backend_buffer_type_t type = ggml_backend_get_default_buffer_type(backend);
  const size_t alignment = ggml_backend_buft_get_alignment(type);
  const auto padded = [&](const ggml_tensor* tensor) {
    return (ggml_backend_buft_get_alloc_size(type, tensor) + alignment - 1) / alignment * alignment;
  };
  ggml_tensor* mask = cached.tensors.mask;
  const size_t tail = static_cast<size_t>(kMaskTailRows) * mask->nb[1];
  size_t size = padded(mask) + tail;
  for (const ggml_tensor* tensor : cached.tensors.all_but_mask()) size += padded(tensor);
  cached.buffer.reset(ggml_backend_buft_alloc_buffer(type, size));
  if (!cached.buffer) return "no memory for its inputs";
  ggml_tallocr at = ggml_tallocr_new(cached.buffer.get());
  for (ggml_tensor* tensor : cached.tensors.all_but_mask()) {
    if (ggml_tallocr_alloc(&at, tensor) != GGML_STATUS_SUCCESS) return "no memory for its inputs";
  }
  if (ggml_tallocr_alloc(&at, mask) != GGML_STATUS_SUCCESS) return "no memory for its inputs";

  const size_t before = ggml_gallocr_get_buffer_size(allocator.get(), 0);
  if (!ggml_gallocr_alloc_graph(allocator.get(), cached.result->get_gf())) return "no memory for its graph";
  // A larger buffer is another one: the graphs that were placed in the old one are gone.
  if (ggml_gallocr_get_buffer_size(allocator.get(), 0) != before) {
    graphs.clear();
    epoch++;
  }
  // Or ggml-cuda compares all nodes before every replay of a captured graph.
  cached.result->get_gf()->uid = ggml_graph_next_uid();
  write_constants(cached);

  const Inputs& in = cached.tensors;
  const bool transposed = !context->get_cparams().flash_attn;
  GraphInputs& inputs = cached.graph.inputs;
  inputs.tokens = static_cast<Token*>(in.tokens->data);
  inputs.positions = in.pos != nullptr ? static_cast<int32_t*>(in.pos->data) : nullptr;
  inputs.k_rows = static_cast<int64_t*>(in.k_idxs->data);
  inputs.v_rows = static_cast<int64_t*>(in.v_idxs->data);
  inputs.mask = mask->data;
  inputs.mask_f16 = mask->type == GGML_TYPE_F16;
  inputs.first_stream = cached.first_lane;
  inputs.n_kv = cached.n_kv;
  inputs.kv_size = cache->get_size();
  inputs.v_width = transposed ? in.v_idxs->ne[0] / cached.shape.rows() : 0;
  cached.graph.logits = static_cast<float*>(cached.result->t_logits->data);
  cached.graph.logits_stride = static_cast<int64_t>(cached.result->t_logits->nb[1] / sizeof(float));
  return "";
}

// What no iteration changes: which rows have outputs (all), rotation matrices of quantised caches, -inf behind the
// mask.
void GraphBridge::Impl::write_constants(Cached& cached) {
  const Inputs& in = cached.tensors;
  if (in.out_ids != nullptr) {
    std::vector<int32_t> ids(static_cast<size_t>(in.out_ids->ne[0]));
    for (size_t r = 0; r < ids.size(); r++) ids[r] = static_cast<int32_t>(r);
    ggml_backend_tensor_set(in.out_ids, ids.data(), 0, ggml_nbytes(in.out_ids));
  }
  const auto rotate = [&](ggml_tensor* target, auto set) {
    if (target == nullptr) return;
    // set_input_*_rot writes to host memory only.
    ggml_tensor host = *target;
    const BufferPointer buffer(ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), ggml_nbytes(target)));
    if (!buffer) throw std::bad_alloc();
    host.buffer = buffer.get();
    host.data = ggml_backend_buffer_get_base(buffer.get());
    set(&host);
    ggml_backend_tensor_set(target, host.data, 0, ggml_nbytes(target));
  };
  rotate(in.k_rot, [&](ggml_tensor* host) { cache->set_input_k_rot(host); });
  rotate(in.v_rot, [&](ggml_tensor* host) { cache->set_input_v_rot(host); });

  const size_t size = ggml_nbytes(in.mask) + static_cast<size_t>(kMaskTailRows) * in.mask->nb[1];
  std::vector<char> hidden(size);
  if (in.mask->type == GGML_TYPE_F16) {
    std::fill_n(reinterpret_cast<uint16_t*>(hidden.data()), size / 2, static_cast<uint16_t>(0xFC00));
  } else {
    std::fill_n(reinterpret_cast<float*>(hidden.data()), size / 4, -INFINITY);
  }
  // ggml_backend_tensor_set would refuse to write behind the tensor: a stand-in that is as large.
  ggml_tensor whole = *in.mask;
  whole.type = GGML_TYPE_I8;
  whole.ne[0] = static_cast<int64_t>(size);
  whole.ne[1] = whole.ne[2] = whole.ne[3] = 1;
  whole.nb[0] = 1;
  whole.nb[1] = whole.nb[2] = whole.nb[3] = size;
  ggml_backend_tensor_set(&whole, hidden.data(), 0, size);
}

void GraphBridge::Impl::collect_tensors(const llama_kv_cache_context& memory) {
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
    tensors.push_back(tensor);
  };
  for (const uint32_t layer : cache->get_layer_ids()) {
    const GgmlContextPointer scratch(ggml_init(params));
    add(memory.get_k(scratch.get(), static_cast<int32_t>(layer)), false);
    add(memory.get_v(scratch.get(), static_cast<int32_t>(layer)), transposed);
  }
}

// --- the public face
// --------------------------------------------------------------------------------------------------

std::unique_ptr<GraphBridge> GraphBridge::create(llama_context* context, int threads, ggml_threadpool* pool,
                                                 std::string& reason) {
  auto impl = std::make_unique<Impl>();
  impl->context = context;
  impl->threads = threads;
  impl->pool = pool;
  const llama_cparams& options = context->get_cparams();
  const llama_hparams& hparams = context->get_model().hparams;
  const auto no = [&](std::string why) {
    reason = std::move(why);
    return nullptr;
  };
  llama_memory_i* memory = context->get_memory();
  if (memory == nullptr) return no("the model has no KV cache");
  if (typeid(*memory) != typeid(llama_kv_cache)) {
    return no(hparams.swa_type != LLAMA_SWA_TYPE_NONE ? "the model has a sliding-window KV cache"
                                                      : "the model's memory is not a plain KV cache");
  }
  impl->cache = static_cast<llama_kv_cache*>(memory);
  if (hparams.swa_type != LLAMA_SWA_TYPE_NONE) return no("the model has sliding-window attention");
  if (hparams.use_alibi) return no("the model's attention depends on distance (ALiBi)");
  if (hparams.n_pos_per_embd() != 1) return no("the model's positions have more than one part (M-RoPE)");
  if (!options.causal_attn) return no("the model's attention is not causal");
  if (options.embeddings || options.pooling_type != LLAMA_POOLING_TYPE_NONE) return no("the context is for embeddings");
  if (options.kv_unified) return no("its lanes share one stream of KV cells");
  if (!options.offload_kqv) return no("its KV cache is kept on the host");
  if (!context->adapters_lora_are_same(nullptr, 0, nullptr)) return no("a LoRA adapter is applied");

  ggml_backend_sched_t sched = context->get_sched();
  const int count = ggml_backend_sched_get_n_backends(sched);
  if (count > 2) return no("the model is spread over several devices");
  impl->backend = ggml_backend_sched_get_backend(sched, 0);
  impl->cpu = ggml_backend_is_cpu(impl->backend);
  if (!impl->cpu && std::string(ggml_backend_name(impl->backend)).rfind("CUDA", 0) != 0) {
    return no(std::string("there are no kernels for ") + ggml_backend_name(impl->backend));
  }
  impl->allocator.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(impl->backend)));

  // A trial graph on the whole cache. (With llama.cpp's own stand-in for "all cells": it spans all streams.)
  const llama_kv_cache_context whole(impl->cache);
  const PassShape shape{static_cast<int32_t>(impl->cache->get_n_stream()), 1, 2};
  const auto trial = impl->build(shape, 0, whole);
  if (trial == nullptr) return no("llama.cpp builds no graph for it");
  const std::string unknown = trial->tensors.collect(*trial->result);
  if (!unknown.empty()) return no(unknown);
  const std::string refusal = impl->why_not(*trial);
  if (!refusal.empty()) return no(refusal);
  impl->collect_tensors(whole);
  return std::unique_ptr<GraphBridge>(new GraphBridge(std::move(impl)));
}

GraphBridge::GraphBridge(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GraphBridge::~GraphBridge() = default;

int64_t GraphBridge::kv_size() const { return impl_->cache->get_size(); }

ResidentGraph* GraphBridge::prepare(const PassShape& shape, int first_lane, std::span<const CellRange> cells,
                                    std::string& reason) {
  // Copies between lanes (forks) wait for this.
  impl_->context->memory_update(false);
  int64_t end = 0;
  for (const CellRange& range : cells) end = std::max<int64_t>(end, range.end);
  const int64_t n_kv = std::min(kv_size(), padded_cells(end));

  Cached* found = nullptr;
  for (const auto& cached : impl_->graphs) {
    if (cached->is(shape, first_lane, n_kv)) found = cached.get();
  }
  // A new graph learns n_kv and its streams from a memory context, and that one wants to claim something itself: the
  // last row of every lane.
  const int late = found == nullptr ? 1 : 0;
  for (size_t b = 0; b < cells.size(); b++) {
    if (!impl_->claim(first_lane + static_cast<int>(b), cells[b].first, cells[b].end - cells[b].first - late)) {
      reason = "a lane's KV rows are not at its positions";
      return nullptr;
    }
  }
  if (found == nullptr) {
    std::vector<uint32_t> last;
    Ubatch batch(first_lane, static_cast<int>(cells.size()), 1);
    for (size_t b = 0; b < cells.size(); b++) {
      batch.pos[b] = cells[b].end - 1;
      last.push_back(static_cast<uint32_t>(batch.pos[b]));
    }
    llama_kv_cache_context memory(impl_->cache, {slots(first_lane, last, 1)}, {batch.view});
    memory.apply();
    auto built = impl_->build(shape, first_lane, memory);
    if (built == nullptr || built->n_kv != n_kv) {
      reason = "llama.cpp built no graph for " + std::to_string(n_kv) + " cells";
      return nullptr;
    }
    reason = built->tensors.collect(*built->result);
    if (reason.empty()) reason = impl_->place(*built);
    if (!reason.empty()) return nullptr;
    if (impl_->graphs.size() == kMaxGraphs) {
      impl_->epoch++;
      impl_->graphs.erase(std::min_element(impl_->graphs.begin(), impl_->graphs.end(),
                                           [](const auto& a, const auto& b) { return a->used < b->used; }));
    }
    found = built.get();
    impl_->graphs.push_back(std::move(built));
  }
  found->used = ++impl_->uses;
  return &found->graph;
}

GraphBridge::Status GraphBridge::compute(ResidentGraph* graph) {
  if (impl_->cpu) {
    ggml_backend_cpu_set_n_threads(impl_->backend, impl_->threads);
    ggml_backend_cpu_set_threadpool(impl_->backend, impl_->pool);
  }
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

const std::vector<KvTensor>& GraphBridge::kv_tensors() const { return impl_->tensors; }
bool GraphBridge::flash_attention() const { return impl_->context->get_cparams().flash_attn; }
bool GraphBridge::on_cpu() const { return impl_->cpu; }
uint64_t GraphBridge::epoch() const { return impl_->epoch; }
std::unique_ptr<KernelDevice> GraphBridge::make_device() const {
#ifdef CLLM_CUDA
  if (!impl_->cpu) return make_cuda_device(cuda_stream_of(impl_->backend));
#endif
  return make_cpu_device();
}

}  // namespace cllm
