#include "products/delta_net.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace cllm {

void delta_net(const DeltaNetArgs& args, int64_t first, int64_t end) {
  const int64_t size = args.size;
  const int count = static_cast<int>(size);
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  thread_local std::vector<float> scratch;
  scratch.resize(std::max(scratch.size(), static_cast<size_t>(size)));
  float* row = scratch.data();
  for (int64_t j = first; j < end; j++) {
    std::copy_n(args.state + j * size, size, row);
    for (int64_t t = 0; t < args.tokens; t++) {
      const float* k = args.k + t * args.k_stride;
      if (args.decays_by_channel) {
        const float* decay = args.decay + t * size;
        for (int64_t i = 0; i < size; i++) row[i] *= decay[i];
      } else {
        const float decay = args.decay[t];
        for (int64_t i = 0; i < size; i++) row[i] *= decay;
      }
      float sum = 0;
      args.dot(count, &sum, 0, row, 0, k, 0, 1);
      const float delta = (args.v[t * args.v_stride + j] - sum) * args.beta[t * args.beta_stride];
      for (int64_t i = 0; i < size; i++) row[i] = std::fma(k[i], delta, row[i]);
      args.dot(count, &sum, 0, row, 0, args.q + t * args.q_stride, 0, 1);
      args.out[t * args.out_stride + j] = sum * scale;
      const int64_t plane = args.tokens - 1 - t;
      if (plane < args.planes) std::copy_n(row, size, args.stored + plane * args.plane_stride + j * size);
    }
  }
}

}  // namespace cllm
