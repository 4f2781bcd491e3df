#include "model_memory_name.h"

#include <stdexcept>
#include <typeinfo>

#include "base/ggml_guard.h"
#include "base/ggml_pointers.h"
#include "llama-kv-cache-dsa-iswa.h"
#include "llama-kv-cache-dsa.h"
#include "llama-kv-cache-dsv4.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache-msa.h"
#include "llama-kv-cache.h"
#include "llama-memory-hybrid-idx.h"
#include "llama-memory-hybrid-iswa.h"
#include "llama-memory-hybrid.h"
#include "llama-memory-recurrent.h"

namespace cllm {

std::string memory_class_of(llama_model* model) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = 256;
  params.n_batch = params.n_ubatch = 8;
  params.swa_full = true;
  clear_last_log_error();
  const GgmlGuard guard;
  const LlamaContextPointer context(llama_init_from_model(model, params));
  if (!context) throw std::runtime_error(take_last_log_error());
  const llama_memory_i* memory = llama_get_memory(context.get());
  if (memory == nullptr) return "none";
  const std::type_info& type = typeid(*memory);
  if (type == typeid(llama_kv_cache)) return "plain";
  if (type == typeid(llama_kv_cache_iswa)) return "iswa";
  if (type == typeid(llama_memory_hybrid)) return "hybrid";
  if (type == typeid(llama_memory_hybrid_iswa)) return "hybrid-iswa";
  if (type == typeid(llama_memory_hybrid_idx)) return "hybrid-idx";
  if (type == typeid(llama_memory_recurrent)) return "recurrent";
  if (type == typeid(llama_kv_cache_dsa)) return "dsa";
  if (type == typeid(llama_kv_cache_dsa_iswa)) return "dsa-iswa";
  if (type == typeid(llama_kv_cache_msa)) return "msa";
  if (type == typeid(llama_kv_cache_dsv4)) return "dsv4";
  return type.name();
}

}  // namespace cllm
