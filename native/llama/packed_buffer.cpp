// The "extra buffer type" of ggml-cpu that holds packed weights. ggml's own repacked 4-bit formats are such types too:
// llama.cpp's loader offers a weight to each of them and takes the first that supports its operation. This file follows
// ggml/src/ggml-cpu/repack.cpp.
#include "llama/packed_buffer.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/weight_filter.h"
#include "ggml-backend-impl.h"
#include "ggml-cpu.h"
#include "ggml-cpu/traits.h"
#include "llama-context.h"
#include "llama-model.h"
#include "llama/delta_net.h"
#include "llama/packed_attention.h"
#include "llama/packed_product.h"
#include "llama/state_stores.h"

namespace cllm {

namespace {

ggml_backend_buffer_type_t buffer_type();

bool is_packed(const ggml_tensor* weight) { return weight->buffer != nullptr && weight->buffer->buft == buffer_type(); }

// Whether x is a product with packed weights. The search goes back over rotation, norm, bias and views to the product
// with the query weights.
bool comes_from_packed(const ggml_tensor* x) {
  constexpr int kMaxSteps = 12;
  for (int step = 0; step < kMaxSteps && x != nullptr; step++, x = x->src[0]) {
    if (x->op == GGML_OP_MUL_MAT) return is_packed(x->src[0]);
  }
  return false;
}

class PackedBufferType : public ggml::cpu::extra_buffer_type {
 public:
  bool supports_op(ggml_backend_dev_t, const ggml_tensor* op) override {
    return is_ours(op) && packed_product_of(op->src[0]) != nullptr && op->src[1]->type == GGML_TYPE_F32 &&
           (op->src[1]->buffer == nullptr || ggml_backend_buft_is_host(op->src[1]->buffer->buft));
  }
  ggml::cpu::tensor_traits* get_tensor_traits(const ggml_tensor* op) override {
    if (op->op == GGML_OP_GATED_DELTA_NET) return packed_delta_net(op);
    if (op->op == GGML_OP_FLASH_ATTN_EXT) return comes_from_packed(op->src[0]) ? packed_attention(op) : nullptr;
    return is_ours(op) ? static_cast<ggml::cpu::tensor_traits*>(op->src[0]->extra) : nullptr;
  }

 private:
  static bool is_ours(const ggml_tensor* op) { return op->op == GGML_OP_MUL_MAT && is_packed(op->src[0]); }
};

ggml_status init_tensor(ggml_backend_buffer_t, ggml_tensor* tensor) {
  tensor->extra = static_cast<ggml::cpu::tensor_traits*>(packed_product_of(tensor));
  return GGML_STATUS_SUCCESS;
}

void set_tensor(ggml_backend_buffer_t, ggml_tensor* tensor, const void* data, size_t offset, size_t size) {
  const PackedProduct* product = packed_product_of(tensor);
  GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor) && product != nullptr);
  std::vector<char> changed;
  if (weight_filter != nullptr) data = weight_filter->filtered(tensor, data, changed);
  product->pack(tensor, data);
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
  ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
  if (buffer == nullptr) return nullptr;
  buffer->buft = type;
  buffer->iface.init_tensor = init_tensor;
  buffer->iface.set_tensor = set_tensor;
  buffer->iface.get_tensor = nullptr;
  buffer->iface.cpy_tensor = nullptr;
  return buffer;
}

ggml_backend_buffer_type_t buffer_type() {
  static PackedBufferType packed_type;
  static ggml_backend_buffer_type type = {
      /* .iface   = */ {
          /* .get_name       = */ [](ggml_backend_buffer_type_t) { return "CPU_PACKED"; },
          /* .alloc_buffer   = */ alloc_buffer,
          /* .get_alignment  = */ [](ggml_backend_buffer_type_t) -> size_t { return 64; },
          /* .get_max_size   = */ nullptr,
          /* .get_alloc_size = */
          [](ggml_backend_buffer_type_t, const ggml_tensor* tensor) {
            const PackedProduct* product = packed_product_of(tensor);
            return product != nullptr ? product->packed_size(tensor) : ggml_nbytes(tensor);
          },
          /* .is_host        = */ nullptr,
      },
      /* .device  = */ ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0),
      /* .context = */ &packed_type,
  };
  return &type;
}

}  // namespace

void register_packed_buffer() {
#ifndef CLLM_CUDA
  // Beside a GPU ggml's scheduler may give it the operator while the cache is in the host's memory.
  cllm_stores_states = computes_delta_net;
#endif
  // Ours comes before ggml's own types, which pack Q4_0 too.
  auto& types = ggml_backend_cpu_get_extra_buffer_types();
  types.insert(types.begin(), buffer_type());
}

bool rows_are_independent(const llama_context* context) {
  if (!context->get_cparams().flash_attn) return false;
  ggml_cgraph* graph = context->get_gf_res_reserve()->get_gf();
  const auto& types = ggml_backend_cpu_get_extra_buffer_types();
  bool all = true;
  for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
    const ggml_tensor* node = ggml_graph_node(graph, i);
    if (node->op == GGML_OP_FLASH_ATTN_EXT) {
      all = all && comes_from_packed(node->src[0]) && packed_attention(node) != nullptr;
    } else if (node->op == GGML_OP_MUL_MAT || node->op == GGML_OP_MUL_MAT_ID) {
      const ggml_backend_buffer_t buffer = node->src[0]->buffer;
      const bool repacked = buffer != nullptr && std::find(types.begin(), types.end(), buffer->buft) != types.end();
      all = all && (!repacked || is_packed(node->src[0]));
    }
  }
  return all;
}

void filter_unpacked(llama_model* model, WeightFilter& filter) {
  for (const std::string& name : filter.unfiltered()) {
    auto* tensor = const_cast<ggml_tensor*>(model->get_tensor(name.c_str()));
    if (tensor == nullptr) throw Error("CLLM_NOT_SUPPORTED", "llama.cpp does not load " + name + ", which is adapted");
    if (tensor->buffer == nullptr || tensor->buffer->iface.get_tensor == nullptr) {
      throw Error("CLLM_NOT_SUPPORTED", "llama.cpp has packed " + name + ", so that nothing can be merged into it: " +
                                            "merge the adapter into a file, or load with packWeights: false");
    }
    std::vector<char> data(ggml_nbytes(tensor)), changed;
    ggml_backend_tensor_get(tensor, data.data(), 0, data.size());
    const void* result = filter.filtered(tensor, data.data(), changed);
    ggml_backend_tensor_set(tensor, result, 0, data.size());
  }
}

uint64_t packed_weights(const llama_model* model) {
  const auto& types = ggml_backend_cpu_get_extra_buffer_types();
  uint64_t sum = 0;
  for (const auto& [type, bytes] : model->memory_breakdown()) {
    if (std::find(types.begin(), types.end(), type) != types.end()) sum += bytes;
  }
  return sum;
}

}  // namespace cllm
