// What a context and a graph of llama.cpp must fulfil for the device loop.
#include <algorithm>
#include <typeinfo>

#include "ggml-cpu.h"
#include "llama-model.h"
#include "llama/graph_bridge_impl.h"

namespace cllm {

namespace {

/// Why the kernels cannot write the inputs of a graph with one of this class, in words that say what the model does.
std::string unknown_input(const std::type_info& type) {
  if (type == typeid(llm_graph_input_attn_k) || type == typeid(llm_graph_input_mem_hybrid_k)) {
    return "the model's attention keeps compressed rows (MLA)";
  }
  if (type == typeid(llm_graph_input_attn_temp)) return "the model scales its queries by their position";
  const std::string name = type.name();
  const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());  // the length of a mangled name
  return "its graph has an input of a kind unknown to the bridge (" + name.substr(digits) + ")";
}

}  // namespace

std::string GraphBridge::Impl::inspect_memory() {
  const llama_hparams& hparams = context->get_model().hparams;
  llama_memory_i* memory = context->get_memory();
  if (memory == nullptr) return "the model has no KV cache";
  // The classes are compared exactly, because a subclass has more to write.
  const auto& type = typeid(*memory);
  llama_kv_cache_iswa* iswa = nullptr;
  if (type == typeid(llama_kv_cache)) {
    full = static_cast<llama_kv_cache*>(memory);
  } else if (type == typeid(llama_kv_cache_iswa)) {
    iswa = static_cast<llama_kv_cache_iswa*>(memory);
  } else if (type == typeid(llama_memory_hybrid)) {
    full = static_cast<llama_memory_hybrid*>(memory)->get_mem_attn();
    recurrent = static_cast<llama_memory_hybrid*>(memory)->get_mem_recr();
  } else if (type == typeid(llama_memory_hybrid_iswa)) {
    iswa = static_cast<llama_memory_hybrid_iswa*>(memory)->get_mem_attn();
    recurrent = static_cast<llama_memory_hybrid_iswa*>(memory)->get_mem_recr();
  } else if (type == typeid(llama_memory_recurrent)) {
    return "the model has no attention, only recurrent state";
  } else {
    return "the model's attention is sparse, with a memory of its own kind";
  }
  if (iswa != nullptr) {
    full = iswa->get_base();
    windowed = iswa->get_swa();
    window = {.size = static_cast<int32_t>(hparams.n_swa), .chunked = hparams.swa_type == LLAMA_SWA_TYPE_CHUNKED};
  }
  const bool known_window = hparams.swa_type == LLAMA_SWA_TYPE_STANDARD || hparams.swa_type == LLAMA_SWA_TYPE_CHUNKED;
  if (iswa != nullptr ? !known_window : hparams.swa_type != LLAMA_SWA_TYPE_NONE) {
    return "the model has sliding-window attention of an unknown kind";
  }
  if (recurrent != nullptr && recurrent->n_rs_seq == 0)
    return "llama.cpp keeps no snapshots of the model's recurrent state";
  return "";
}

std::string GraphBridge::Impl::inspect_context() {
  const llama_cparams& options = context->get_cparams();
  const llama_hparams& hparams = context->get_model().hparams;
  const std::string objection = inspect_memory();
  if (!objection.empty()) return objection;
  if (hparams.use_alibi) return "the model's attention depends on distance (ALiBi)";
  const int64_t position_parts = hparams.n_pos_per_embd();
  if (position_parts != 1 && position_parts != 4) return "the model's positions have an unknown number of parts";
  if (!options.causal_attn) return "the model's attention is not causal";
  if (options.embeddings || options.pooling_type != LLAMA_POOLING_TYPE_NONE) return "the context is for embeddings";
  if (options.kv_unified) return "its lanes share one stream of KV cells";
  if (!options.offload_kqv) return "its KV cache is kept on the host";
  if (!context->adapters_lora_are_same(nullptr, 0, nullptr)) return "a LoRA adapter is applied";

  ggml_backend_sched_t sched = context->get_sched();
  if (ggml_backend_sched_get_n_backends(sched) > 2) return "the model is spread over several devices";
  backend = ggml_backend_sched_get_backend(sched, 0);
  on_cpu = ggml_backend_is_cpu(backend);
  if (!on_cpu && std::string(ggml_backend_name(backend)).rfind("CUDA", 0) != 0) {
    return std::string("there are no kernels for ") + ggml_backend_name(backend);
  }
  return "";
}

std::string GraphBridge::Impl::objection_to(const CachedGraph& cached) const {
  const ggml_tensor* logits = cached.result->t_logits;
  if (logits == nullptr || logits->type != GGML_TYPE_F32 || logits->nb[0] != sizeof(float) ||
      logits->ne[1] != cached.shape.rows()) {
    return "its graph has no plain logits for every token";
  }
  const InputTensors& in = cached.tensors;
  const int64_t position_parts = context->get_model().hparams.n_pos_per_embd();
  if (in.pos != nullptr && in.pos->ne[0] != position_parts * cached.shape.rows()) {
    return "its positions have an unknown shape";
  }
  if ((in.states != nullptr) != (recurrent != nullptr) || (in.windowed.mask != nullptr) != (windowed != nullptr)) {
    return "its graph lacks an input for a part of the memory";
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

std::string InputTensors::collect(const llm_graph_result& result) {
  for (const auto& input : result.inputs) {
    const std::string objection = take(*input);
    if (!objection.empty()) return objection;
  }
  // A graph without a position input is fine: gpt2-like models have one, others may need none.
  const bool has_window = windowed.mask != nullptr;
  if (tokens == nullptr || full.k_idxs == nullptr || full.v_idxs == nullptr || full.mask == nullptr ||
      (has_window && (windowed.k_idxs == nullptr || windowed.v_idxs == nullptr))) {
    return "its graph lacks an input for tokens or attention";
  }
  return "";
}

// The classes are compared exactly, because a subclass has more to write.
std::string InputTensors::take(const llm_graph_input_i& input) {
  const auto& type = typeid(input);
  if (type == typeid(llm_graph_input_embd)) return take(static_cast<const llm_graph_input_embd&>(input));
  if (type == typeid(llm_graph_input_attn_kv)) return take(static_cast<const llm_graph_input_attn_kv&>(input));
  if (type == typeid(llm_graph_input_attn_kv_iswa)) {
    return take(static_cast<const llm_graph_input_attn_kv_iswa&>(input));
  }
  if (type == typeid(llm_graph_input_pos)) {
    pos = static_cast<const llm_graph_input_pos&>(input).pos;
  } else if (type == typeid(llm_graph_input_out_ids)) {
    out_ids = static_cast<const llm_graph_input_out_ids&>(input).out_ids;
  } else if (type == typeid(llm_graph_input_mem_hybrid)) {
    const auto& hybrid = static_cast<const llm_graph_input_mem_hybrid&>(input);
    states = hybrid.inp_rs->s_copy;
    return take(*hybrid.inp_attn);
  } else if (type == typeid(llm_graph_input_mem_hybrid_iswa)) {
    const auto& hybrid = static_cast<const llm_graph_input_mem_hybrid_iswa&>(input);
    states = hybrid.inp_rs->s_copy;
    return take(*hybrid.inp_attn);
  } else {
    return unknown_input(type);
  }
  return "";
}

std::string InputTensors::take(const llm_graph_input_embd& input) {
  if (tokens == nullptr) {
    tokens = input.tokens;
  } else if (ggml_are_same_shape(tokens, input.tokens) && tokens->type == input.tokens->type) {
    same_tokens.push_back(input.tokens);
  } else {
    return "its graph has two inputs for tokens of different shapes";
  }
  return "";
}

std::string InputTensors::take(const llm_graph_input_attn_kv& input) {
  if (full.mask != nullptr) return "its graph has more than one attention input";
  if (input.self_kq_mask_cnv != input.self_kq_mask) return "its attention mask is converted inside the graph";
  full = {input.self_k_idxs, input.self_v_idxs, input.self_kq_mask, input.self_k_rot, input.self_v_rot};
  return "";
}

std::string InputTensors::take(const llm_graph_input_attn_kv_iswa& input) {
  if (full.mask != nullptr) return "its graph has more than one attention input";
  if (input.self_kq_mask_cnv != input.self_kq_mask || input.self_kq_mask_swa_cnv != input.self_kq_mask_swa) {
    return "its attention mask is converted inside the graph";
  }
  full = {input.self_k_idxs, input.self_v_idxs, input.self_kq_mask, input.self_k_rot, input.self_v_rot};
  windowed = {input.self_k_idxs_swa, input.self_v_idxs_swa, input.self_kq_mask_swa, input.self_k_rot_swa,
              input.self_v_rot_swa};
  return "";
}

}  // namespace cllm
