// The trainer's gradients against finite differences of its own loss, in F32, for a model file of any trainable
// architecture:
//   cllm-train-test MODEL.gguf [gpu]
// Without a model it compares the custom operations of the CPU (transpose, BF16 products) with plain loops. On a GPU
// products must be in F32: NVIDIA_TF32_OVERRIDE=0. Every trained parameter moves along a direction that is half the
// gradient and half random, so that neither a wrong entry nor a missing one can hide. Prints one line per failure;
// exits with 1 if there is any.
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <string_view>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "ggml-cpu.h"
#include "train/graph.h"
#include "train/product.h"
#include "train/trajectory.h"
#include "train/transpose.h"

using namespace cllm;

namespace {

struct Problem {
  std::vector<Example> examples;
  RowState rows[2];
  TrainingShape shape{.rows = 2, .length = 96, .labels = 80};
  PassInput input;
};

std::vector<int32_t> random_tokens(std::mt19937& random, int count, int vocab) {
  std::vector<int32_t> tokens(count);
  for (auto& token : tokens) token = static_cast<int32_t>(random() % vocab);
  return tokens;
}

// Two rows: a group of examples with a shared prefix, and examples that share nothing. Both have blocks at several
// places.
void make_problem(Problem& problem, int vocab) {
  std::mt19937 random(7);
  const auto prefix = random_tokens(random, 12, vocab);
  for (int i = 0; i < 4; i++) {
    Example example;
    if (i < 2) example.prompt = prefix;
    const auto question = random_tokens(random, 5 + i, vocab);
    example.prompt.insert(example.prompt.end(), question.begin(), question.end());
    example.answer = random_tokens(random, 7, vocab);
    problem.examples.push_back(example);
  }
  problem.rows[0].segments = {{0, 12, true}, {1, 12, false}};
  problem.rows[1].segments = {{2, 0, true}, {3, 0, true}};
  for (auto& row : problem.rows) {
    for (const int start : {0, 3, 6}) {
      const int32_t segment = start == 3 ? 1 : 0;
      Block block{segment, start, random_tokens(random, 5, vocab)};
      row.blocks.push_back(block);
    }
  }
  lay_out_pass(problem.examples, {&problem.rows[0], &problem.rows[1]}, problem.shape, {}, problem.input);
}

// sum_i hard_i * CE(target_i) + soft_i * CE(fixed[soft_source_i])
double loss(const Problem& problem, const std::vector<float>& p, const std::vector<float>& fixed, size_t vocab) {
  double sum = 0;
  const PassInput& in = problem.input;
  for (size_t i = 0; i < in.at.size(); i++) {
    sum -= in.hard[i] * std::log(p[i * vocab + in.target[i]]);
    if (in.soft[i] == 0) continue;
    for (size_t v = 0; v < vocab; v++) {
      sum -= in.soft[i] * fixed[in.soft_source[i] * vocab + v] * std::log(p[i * vocab + v]);
    }
  }
  return sum;
}

using Random = std::mt19937;

/// Gives adapters other values than the zeros that they begin with, which would hide errors of their other factor.
void randomise_adapters(Weights& weights, Random& random) {
  std::normal_distribution<float> normal;
  for (auto& p : weights.all()) {
    if (!p.name.ends_with(".lora_b")) continue;
    std::vector<float> values(p.in * p.out), transposed(p.in * p.out);
    for (auto& value : values) value = 0.05f * normal(random);
    for (int64_t i = 0; i < p.in; i++) {
      for (int64_t o = 0; o < p.out; o++) transposed[i * p.out + o] = values[o * p.in + i];
    }
    ggml_backend_tensor_set(p.value, values.data(), 0, ggml_nbytes(p.value));
    ggml_backend_tensor_set(p.transposed, transposed.data(), 0, ggml_nbytes(p.transposed));
  }
}

using Gradients = std::vector<std::pair<Parameter*, std::vector<float>>>;

Gradients read_gradients(Weights& weights) {
  Gradients gradients;
  for (auto& p : weights.all()) {
    if (!p.trained) continue;
    std::vector<float> g(p.in * p.out);
    ggml_backend_tensor_get(p.gradient, g.data(), 0, ggml_nbytes(p.gradient));
    gradients.emplace_back(&p, std::move(g));
  }
  return gradients;
}

struct Slope {
  double expected;  // slope by the gradient
  double found;     // slope by finite differences
  double norm;      // norm of the gradient
};

/// The slope of `loss` where `p` moves along a direction that is half the gradient g and half random. A short step
/// suffers from the rounding of the loss, which differs between machines, and a long one from its curvature. So the
/// step grows until the two differences of the extrapolation agree to `precision` times the gradient's norm, or else
/// the step counts at which they agree best.
Slope slope_along(Parameter& p, const std::vector<float>& g, Random& random, const std::function<double()>& loss,
                  double precision) {
  std::normal_distribution<float> normal;
  std::vector<float> values(g.size()), direction(g.size()), moved(g.size());
  ggml_backend_tensor_get(p.value, values.data(), 0, ggml_nbytes(p.value));
  double norm = 0, noise = 0, size = 0;
  for (size_t i = 0; i < g.size(); i++) {
    direction[i] = normal(random);
    noise += direction[i] * direction[i];
    norm += g[i] * g[i];
    size += values[i] * values[i];
  }
  norm = std::sqrt(norm), noise = std::sqrt(noise), size = std::sqrt(size);
  double expected = 0;
  for (size_t i = 0; i < g.size(); i++) {
    direction[i] = static_cast<float>(g[i] / std::max(norm, 1e-30) + direction[i] / noise);
    expected += g[i] * direction[i];
  }
  const double step = 2e-4 * std::max(size, 0.1);
  const auto difference = [&](double h) {
    double side[2];
    for (int s = 0; s < 2; s++) {
      for (size_t i = 0; i < g.size(); i++) moved[i] = values[i] + static_cast<float>(s == 0 ? h : -h) * direction[i];
      ggml_backend_tensor_set(p.value, moved.data(), 0, ggml_nbytes(p.value));
      side[s] = loss();
    }
    return (side[0] - side[1]) / (2 * h);
  };
  double found = 0, best = INFINITY;
  for (const double longer : {1, 4, 16}) {
    const double whole = difference(longer * step), half = difference(longer * step / 2);
    if (std::abs(half - whole) >= best) continue;
    best = std::abs(half - whole);
    // Richardson extrapolation, because the losses of random models are strongly curved.
    found = (4 * half - whole) / 3;
    if (best <= precision * norm) break;
  }
  ggml_backend_tensor_set(p.value, values.data(), 0, ggml_nbytes(p.value));
  return {expected, found, norm};
}

int check(const char* path, bool gpu, const WeightOptions& options, const char* what) {
  const BackendPointer backend(gpu ? ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_GPU, nullptr)
                                   : ggml_backend_cpu_init());
  if (!backend) throw Error("CLLM_BACKEND_UNAVAILABLE", "There is no GPU");
  if (!gpu) ggml_backend_cpu_set_n_threads(backend.get(), 2);
  Weights weights(path, options);
  Problem problem;
  make_problem(problem, weights.architecture().vocab);
  TrainingGraph graph(weights, backend.get(), problem.shape);
  graph.keep_probabilities();
  weights.load(backend.get(), 5);
  graph.allocate();
  Random random(3);
  randomise_adapters(weights, random);
  for (auto& p : weights.all()) {
    if (p.trained) ggml_backend_tensor_memset(p.gradient, 0, 0, ggml_nbytes(p.gradient));
  }
  graph.run(problem.input);
  const auto fixed = graph.probabilities();
  const auto vocab = static_cast<size_t>(weights.architecture().vocab);
  const auto loss_now = [&] {
    graph.run(problem.input);
    return loss(problem, graph.probabilities(), fixed, vocab);
  };
  // ggml-cuda is compiled with fast math, so its losses are noisier.
  const double tolerance = gpu ? 0.06 : 0.02;
  int failures = 0, checked = 0;
  for (const auto& [p, g] : read_gradients(weights)) {
    const Slope slope = slope_along(*p, g, random, loss_now, tolerance / 2);
    checked++;
    if (slope.norm > 0 && std::abs(slope.found - slope.expected) <= tolerance * slope.norm) continue;
    failures++;
    std::printf("%s %s: gradient %.6g but finite difference %.6g (norm %.6g)\n", what, p->name.c_str(), slope.expected,
                slope.found, slope.norm);
  }
  std::printf("%s: %d parameters, %d failures\n", what, checked, failures);
  return failures + (checked == 0);
}

GgmlContextPointer small_context() {
  return GgmlContextPointer(ggml_init({.mem_size = 1 << 26, .mem_buffer = nullptr}));
}

std::vector<float> fill(ggml_tensor* tensor, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(ggml_nelements(tensor));
  for (size_t i = 0; i < values.size(); i++) {
    values[i] = normal(random);
    if (tensor->type == GGML_TYPE_F32) {
      static_cast<float*>(tensor->data)[i] = values[i];
    } else {
      static_cast<ggml_bf16_t*>(tensor->data)[i] = ggml_fp32_to_bf16(values[i]);
      values[i] = ggml_bf16_to_fp32(static_cast<ggml_bf16_t*>(tensor->data)[i]);
    }
  }
  return values;
}

void compute(ggml_context* ctx, ggml_tensor* result) {
  ggml_cgraph* graph = ggml_new_graph(ctx);
  ggml_build_forward_expand(graph, result);
  ggml_graph_compute_with_ctx(ctx, graph, 3);
}

// a [k, m, a2] times b [k, n, b2]: groups of b2 / a2 heads of b share a head of a.
int check_product(int64_t k, int64_t m, int64_t n, int64_t a2, int64_t b2) {
  const GgmlContextPointer ctx = small_context();
  std::mt19937 random(static_cast<uint32_t>(k * 31 + m * 7 + n));
  ggml_tensor* a = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_BF16, k, m, a2);
  ggml_tensor* b = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_BF16, k, n, b2);
  const auto a_values = fill(a, random), b_values = fill(b, random);
  ggml_tensor* c = product(ctx.get(), a, b);
  compute(ctx.get(), c);
  double worst = 0;
  for (int64_t h = 0; h < b2; h++) {
    for (int64_t j = 0; j < n; j++) {
      for (int64_t i = 0; i < m; i++) {
        double sum = 0;
        for (int64_t l = 0; l < k; l++)
          sum += double(a_values[(h / (b2 / a2) * m + i) * k + l]) * b_values[(h * n + j) * k + l];
        worst = std::max(worst, std::abs(sum - static_cast<float*>(c->data)[(h * n + j) * m + i]));
      }
    }
  }
  if (worst < 1e-4 * std::sqrt(static_cast<double>(k))) return 0;
  std::printf("product k %d m %d n %d: off by %g\n", int(k), int(m), int(n), worst);
  return 1;
}

int check_transpose(int64_t columns, int64_t rows, int64_t heads, bool permuted, ggml_type type) {
  const GgmlContextPointer ctx = small_context();
  std::mt19937 random(9);
  ggml_tensor* x = permuted ? ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F32, columns, heads, rows)
                            : ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F32, columns, rows, heads);
  const auto values = fill(x, random);
  ggml_tensor* y = transpose_on_cpu(ctx.get(), permuted ? ggml_permute(ctx.get(), x, 0, 2, 1, 3) : x, type);
  compute(ctx.get(), y);
  for (int64_t h = 0; h < heads; h++) {
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t c = 0; c < columns; c++) {
        const float expected = values[(permuted ? r * heads + h : h * rows + r) * columns + c];
        const int64_t at = (h * columns + c) * rows + r;
        const bool same = type == GGML_TYPE_F32
                              ? static_cast<float*>(y->data)[at] == expected
                              : static_cast<ggml_bf16_t*>(y->data)[at].bits == ggml_fp32_to_bf16(expected).bits;
        if (!same) return std::printf("transpose %d x %d differs\n", int(columns), int(rows)), 1;
      }
    }
  }
  return 0;
}

int check_operations() {
  int failures = 0;
  for (const int64_t columns : {1, 15, 16, 17, 48, 100}) {
    for (const int64_t rows : {1, 16, 33}) {
      for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_BF16}) {
        for (const bool permuted : {false, true}) failures += check_transpose(columns, rows, 3, permuted, type);
      }
    }
  }
  if (!has_product()) return failures;
  for (const int64_t k : {2, 30, 32, 64, 510, 512, 514, 1030}) {
    for (const int64_t m : {16, 32, 48, 80}) {
      for (const int64_t n : {1, 5, 12, 13, 25})
        failures += check_product(k, m, n, 1, 1) + check_product(k, m, n, 2, 6);
    }
  }
  return failures;
}

}  // namespace

int main(int argc, char** argv) {
  const bool gpu = argc == 3 && std::string_view(argv[2]) == "gpu";
  if (argc > 3 || (argc == 3 && !gpu)) return std::fprintf(stderr, "cllm-train-test [MODEL.gguf [gpu]]\n"), 2;
  install_ggml_guard();
  if (argc == 1) return check_operations() == 0 ? 0 : 1;
  try {
    const int failures = check(argv[1], gpu, {}, "full") + check(argv[1], gpu, {.lora_rank = 3}, "adapters");
    return failures == 0 ? 0 : 1;
  } catch (const Error& error) {
    std::printf("%s: %s\n", error.code().c_str(), error.what());
    return 1;
  }
}
