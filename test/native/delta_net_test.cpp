// The gated delta net: our operator against ggml's, to the bit, with its states in the result and in a cache.
#include "llama/delta_net.h"

#include <cstring>
#include <random>
#include <vector>

#include "base/ggml_pointers.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "llama/state_stores.h"
#include "unit_test.h"
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-function"  // functions of ggml-impl.h
#endif
#include "ggml-cpu/traits.h"

namespace {

using namespace cllm;

struct Shape {
  int64_t size, heads, key_heads, tokens, sequences, planes;
  bool by_channel;
};

/// Takes the delta nets of all graphs while it is registered.
class DeltaNets : public ggml::cpu::extra_buffer_type {
 public:
  bool supports_op(ggml_backend_dev_t, const ggml_tensor*) override { return false; }
  ggml::cpu::tensor_traits* get_tensor_traits(const ggml_tensor* op) override {
    return op->op == GGML_OP_GATED_DELTA_NET ? packed_delta_net(op) : nullptr;
  }
};

ggml_backend_buffer_type_t delta_nets() {
  static DeltaNets context;
  static ggml_backend_buffer_type type = {};
  type.device = ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
  type.context = &context;
  return &type;
}

/// The result for random inputs: what the operator gives out, and the states that a cache of `lanes` lanes holds.
std::vector<float> compute(const Shape& shape, int threads) {
  constexpr int64_t kLanes = 5, kFirstLane = 1;
  const auto [size, heads, key_heads, tokens, sequences, planes, by_channel] = shape;
  const GgmlContextPointer context(
      ggml_init({.mem_size = 64 * ggml_tensor_overhead() + ggml_graph_overhead(), .no_alloc = true}));
  ggml_context* c = context.get();
  const auto tensor = [&](int64_t a, int64_t b, int64_t d, int64_t e) {
    return ggml_new_tensor_4d(c, GGML_TYPE_F32, a, b, d, e);
  };
  ggml_tensor* q = tensor(size, key_heads, tokens, sequences);
  ggml_tensor* k = tensor(size, key_heads, tokens, sequences);
  ggml_tensor* v = tensor(size, heads, tokens, sequences);
  ggml_tensor* gate = tensor(by_channel ? size : 1, heads, tokens, sequences);
  ggml_tensor* beta = tensor(1, heads, tokens, sequences);
  ggml_tensor* state = tensor(size, size, heads, sequences);
  ggml_tensor* cache = tensor(size * size * heads, kLanes * planes, 1, 1);
  const BackendPointer cpu(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
  const BufferPointer inputs(ggml_backend_alloc_ctx_tensors(c, cpu.get()));
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (ggml_tensor* input : {q, k, v, gate, beta, state, cache}) {
    std::vector<float> values(static_cast<size_t>(ggml_nelements(input)));
    for (float& value : values) value = input == gate ? -std::abs(normal(random)) : 0.2f * normal(random);
    ggml_backend_tensor_set(input, values.data(), 0, ggml_nbytes(input));
  }

  ggml_tensor* out = ggml_gated_delta_net(c, q, k, v, gate, beta, state, planes);
  const int64_t written = std::min(tokens, planes), state_size = size * size * heads;
  const auto bytes = [](int64_t elements) { return static_cast<size_t>(elements) * sizeof(float); };
  ggml_tensor* states = ggml_view_3d(c, out, state_size, sequences, written, bytes(state_size),
                                     bytes(state_size * sequences), bytes(size * heads * tokens * sequences));
  ggml_tensor* rows = ggml_view_3d(c, cache, state_size, sequences, written, cache->nb[1], kLanes * cache->nb[1],
                                   kFirstLane * cache->nb[1]);
  ggml_cgraph* graph = ggml_new_graph(c);
  ggml_build_forward_expand(graph, cllm_store(c, states, rows));
  const AllocatorPointer allocator(ggml_gallocr_new(ggml_backend_get_default_buffer_type(cpu.get())));
  ggml_gallocr_alloc_graph(allocator.get(), graph);
  ggml_backend_cpu_set_n_threads(cpu.get(), threads);
  ggml_backend_graph_compute(cpu.get(), graph);

  const int64_t emitted = size * heads * tokens * sequences;
  std::vector<float> result(static_cast<size_t>(emitted + ggml_nelements(cache)));
  ggml_backend_tensor_get(out, result.data(), 0, bytes(emitted));
  ggml_backend_tensor_get(cache, result.data() + emitted, 0, ggml_nbytes(cache));
  return result;
}

}  // namespace

void test_delta_net() {
  auto& types = ggml_backend_cpu_get_extra_buffer_types();
  for (const Shape& shape : {Shape{128, 4, 2, 8, 1, 9, false},
                             {128, 4, 4, 3, 3, 3, false},
                             {64, 3, 1, 16, 2, 5, false},
                             {64, 2, 2, 1, 2, 4, true},
                             {128, 2, 2, 7, 1, 7, true},
                             {48, 5, 5, 40, 1, 8, false}}) {
    const std::vector<float> expected = compute(shape, 1);
    types.insert(types.begin(), delta_nets());
    for (const bool stores : {false, true}) {
      for (const int threads : {1, 3}) {
        cllm_stores_states = stores ? computes_delta_net : nullptr;
        const std::vector<float> found = compute(shape, threads);
        check(std::memcmp(found.data(), expected.data(), expected.size() * sizeof(float)) == 0,
              std::to_string(shape.tokens) + " tokens of " + std::to_string(shape.heads) + " heads, " +
                  (stores ? "states in the cache" : "states in the result") + ", as ggml computes them");
      }
    }
    cllm_stores_states = nullptr;
    types.erase(types.begin());
  }
}
