// GFLOP/s of BF16 products of a training pass's shape, ours and ggml's; the trainer's figure is compared with them.
//   cllm-product-bench [threads]    prints {"ours": x, "ggml": y}
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "ggml-cpu.h"
#include "ggml.h"
#include "train/product.h"

namespace {

constexpr int64_t kInner = 576, kRows = 1536, kColumns = 512;  // SmolLM2-135M's feed-forward matrix, a row of tokens
constexpr int kRepeats = 10;  // so many that starting the threads does not count

double gflops(bool own, int threads) {
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> ctx(
      ggml_init({.mem_size = 64u << 20, .mem_buffer = nullptr, .no_alloc = false}), ggml_free);
  ggml_tensor* a = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_BF16, kInner, kRows);
  ggml_tensor* b = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_BF16, kInner, kColumns);
  std::memset(a->data, 0, ggml_nbytes(a));
  std::memset(b->data, 0, ggml_nbytes(b));
  ggml_cgraph* graph = ggml_new_graph(ctx.get());
  for (int i = 0; i < kRepeats; i++) {
    ggml_build_forward_expand(graph, own ? cllm::product(ctx.get(), a, b) : ggml_mul_mat(ctx.get(), a, b));
  }
  std::vector<double> seconds;
  for (int round = 0; round < 15; round++) {
    const auto begin = std::chrono::steady_clock::now();
    ggml_graph_compute_with_ctx(ctx.get(), graph, threads);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + 7, seconds.end());
  return kRepeats * 2e-9 * kInner * kRows * kColumns / seconds[7];
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  if (!cllm::has_product()) return std::puts("{\"ours\": null}"), 0;
  std::printf("{\"ours\": %.0f, \"ggml\": %.0f}\n", gflops(true, threads), gflops(false, threads));
}
