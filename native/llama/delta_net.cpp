#include "llama/delta_net.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "llama/state_stores.h"
#include "products/delta_net.h"
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-function"  // functions of ggml-impl.h
#endif
#include "ggml-backend-impl.h"
#include "ggml-cpu/ggml-cpu-impl.h"
#include "ggml-cpu/traits.h"
#include "ggml-cpu/vec.h"

namespace cllm {

namespace {

int64_t elements(size_t bytes) { return static_cast<int64_t>(bytes / sizeof(float)); }

const float* at(const ggml_tensor* x, int64_t i1, int64_t i2, int64_t i3) {
  return static_cast<const float*>(x->data) + i1 * elements(x->nb[1]) + i2 * elements(x->nb[2]) +
         i3 * elements(x->nb[3]);
}

class DeltaNetTraits : public ggml::cpu::tensor_traits {
 public:
  bool work_size(int, const ggml_tensor*, size_t& size) override {
    size = 0;
    return true;
  }
  bool compute_forward(ggml_compute_params* params, ggml_tensor* op) override {
    const int64_t size = op->src[2]->ne[0], heads = op->src[2]->ne[1], sequences = op->src[2]->ne[3];
    // Threads share the rows of all heads.
    const int64_t rows = size * heads * sequences;
    const int64_t first = rows * params->ith / params->nth, end = rows * (params->ith + 1) / params->nth;
    for (int64_t row = first; row < end;) {
      const int64_t unit = row / size, next = std::min(end, (unit + 1) * size);
      delta_net(args_of(op, unit % heads, unit / heads), row % size, next - unit * size);
      row = next;
    }
    return true;
  }

 private:
  static DeltaNetArgs args_of(ggml_tensor* op, int64_t head, int64_t sequence) {
    const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *gate = op->src[3], *beta = op->src[4];
    const ggml_tensor *state = op->src[5], *store = op->src[kStateStore];
    const int64_t size = v->ne[0], heads = v->ne[1], sequences = v->ne[3];
    DeltaNetArgs args{.size = size, .tokens = v->ne[2]};
    args.state = at(state, 0, head, sequence);
    // Heads and sequences may share queries and keys.
    args.q = at(q, head % q->ne[1], 0, sequence / (sequences / q->ne[3]));
    args.k = at(k, head % k->ne[1], 0, sequence / (sequences / k->ne[3]));
    args.v = at(v, head, 0, sequence);
    args.beta = at(beta, head, 0, sequence);
    args.q_stride = elements(q->nb[2]);
    args.k_stride = elements(k->nb[2]);
    args.v_stride = elements(v->nb[2]);
    args.beta_stride = elements(beta->nb[2]);

    args.decays_by_channel = gate->ne[0] == size;
    thread_local std::vector<float> decay;
    decay.clear();
    for (int64_t t = 0; t < args.tokens; t++) {
      const float* values = at(gate, head, t, sequence);
      for (int64_t i = 0; i < gate->ne[0]; i++) decay.push_back(std::exp(values[i]));
    }
    args.decay = decay.data();

    auto* result = static_cast<float*>(op->data);
    args.out = result + (sequence * args.tokens * heads + head) * size;
    args.out_stride = size * heads;
    args.planes = ggml_get_op_params_i32(op, 0);
    const int64_t state_size = size * size * heads;
    if (store != nullptr) {
      args.stored = static_cast<float*>(store->data) + sequence * elements(store->nb[1]) + head * size * size;
      args.plane_stride = elements(store->nb[2]);
    } else {
      args.stored = result + size * heads * args.tokens * sequences + sequence * state_size + head * size * size;
      args.plane_stride = state_size * sequences;
    }
    args.dot = ggml_vec_dot_f32;
    return args;
  }
};

}  // namespace

bool computes_delta_net(const ggml_tensor* op) {
  return std::all_of(op->src, op->src + kStateStore,
                     [](const ggml_tensor* x) { return x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float); });
}

ggml::cpu::tensor_traits* packed_delta_net(const ggml_tensor* op) {
  static DeltaNetTraits traits;
  return computes_delta_net(op) ? &traits : nullptr;
}

}  // namespace cllm
