// What a context and a graph of llama.cpp must fulfil for the device loop.
#include <typeinfo>

#include "ggml-cpu.h"
#include "llama-model.h"
#include "llama/graph_bridge_impl.h"

namespace cllm {

std::string GraphBridge::Impl::inspect_context() {
  const llama_cparams& options = context->get_cparams();
  const llama_hparams& hparams = context->get_model().hparams;
  llama_memory_i* memory = context->get_memory();
  if (memory == nullptr) return "the model has no KV cache";
  if (typeid(*memory) != typeid(llama_kv_cache)) {
    return hparams.swa_type != LLAMA_SWA_TYPE_NONE ? "the model has a sliding-window KV cache"
                                                   : "the model's memory is not a plain KV cache";
  }
  cache = static_cast<llama_kv_cache*>(memory);
  if (hparams.swa_type != LLAMA_SWA_TYPE_NONE) return "the model has sliding-window attention";
  if (hparams.use_alibi) return "the model's attention depends on distance (ALiBi)";
  if (hparams.n_pos_per_embd() != 1) return "the model's positions have more than one part (M-RoPE)";
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

std::string InputTensors::collect(const llm_graph_result& result) {
  for (const auto& input : result.inputs) {
    // The classes are compared exactly, because a subclass has more to write.
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
  // A graph without a position input is fine: gpt2-like models have one, others may need none.
  if (tokens == nullptr || k_idxs == nullptr || v_idxs == nullptr || mask == nullptr) {
    return "its graph lacks an input for tokens or attention";
  }
  return "";
}

}  // namespace cllm
