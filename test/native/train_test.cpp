// The trainer's gradients against finite differences of its own loss, in F32, for a model file of any trainable
// architecture:
//   cllm-train-test MODEL.gguf
// For every trained parameter: the loss along a direction that is half the gradient's and half random, so that neither a
// wrong entry nor a missing one can hide. Prints one line per failure; exits with 1 if there is any.
#include <cmath>
#include <cstdio>
#include <random>

#include "decode/error.h"
#include "decode/ggml_guard.h"
#include "ggml-cpu.h"
#include "train/graph.h"
#include "train/trajectory.h"

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

// Two rows: one group with a shared prefix, one of examples that share nothing; blocks at several places of both.
void make_problem(Problem& problem, int vocab) {
  std::mt19937 random(7);
  const auto prefix = random_tokens(random, 12, vocab);
  for (int i = 0; i < 4; i++) {
    Example example;
    if (i < 2) example.prompt = prefix;
    const auto own = random_tokens(random, 5 + i, vocab);
    example.prompt.insert(example.prompt.end(), own.begin(), own.end());
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

int check(const char* path, const WeightOptions& options, const char* what) {
  const BackendPointer backend(ggml_backend_cpu_init());
  ggml_backend_cpu_set_n_threads(backend.get(), 2);
  Weights weights(path, options);
  Problem problem;
  make_problem(problem, weights.architecture().vocab);
  TrainingGraph graph(weights, backend.get(), problem.shape);
  graph.keep_probabilities();
  weights.load(backend.get(), 5);
  graph.allocate();
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  // Zeros would hide what multiplies them: adapters begin with them.
  for (auto& p : weights.all()) {
    if (!p.name.ends_with(".lora_b")) continue;
    std::vector<float> values(p.in * p.out), turned(p.in * p.out);
    for (auto& value : values) value = 0.05f * normal(random);
    for (int64_t i = 0; i < p.in; i++) {
      for (int64_t o = 0; o < p.out; o++) turned[i * p.out + o] = values[o * p.in + i];
    }
    ggml_backend_tensor_set(p.value, values.data(), 0, ggml_nbytes(p.value));
    ggml_backend_tensor_set(p.transposed, turned.data(), 0, ggml_nbytes(p.transposed));
  }
  for (auto& p : weights.all()) {
    if (p.trained) ggml_backend_tensor_memset(p.gradient, 0, 0, ggml_nbytes(p.gradient));
  }
  graph.run(problem.input);
  const auto fixed = graph.probabilities();
  const auto vocab = static_cast<size_t>(weights.architecture().vocab);
  int failures = 0, checked = 0;
  std::vector<std::pair<Parameter*, std::vector<float>>> gradients;
  for (auto& p : weights.all()) {
    if (!p.trained) continue;
    std::vector<float> g(p.in * p.out);
    ggml_backend_tensor_get(p.gradient, g.data(), 0, ggml_nbytes(p.gradient));
    gradients.emplace_back(&p, std::move(g));
  }
  for (auto& [p, g] : gradients) {
    std::vector<float> values(g.size()), direction(g.size()), moved(g.size());
    ggml_backend_tensor_get(p->value, values.data(), 0, ggml_nbytes(p->value));
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
        ggml_backend_tensor_set(p->value, moved.data(), 0, ggml_nbytes(p->value));
        graph.run(problem.input);
        side[s] = loss(problem, graph.probabilities(), fixed, vocab);
      }
      return (side[0] - side[1]) / (2 * h);
    };
    // Richardson: the random models' losses are strongly curved.
    const double found = (4 * difference(step / 2) - difference(step)) / 3;
    ggml_backend_tensor_set(p->value, values.data(), 0, ggml_nbytes(p->value));
    checked++;
    if (norm > 0 && std::abs(found - expected) <= 0.02 * norm) continue;
    failures++;
    std::printf("%s %s: gradient %.6g but finite difference %.6g (norm %.6g)\n", what, p->name.c_str(), expected, found,
                norm);
  }
  std::printf("%s: %d parameters, %d failures\n", what, checked, failures);
  return failures + (checked == 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "cllm-train-test MODEL.gguf\n"), 2;
  install_ggml_guard();
  try {
    const int failures = check(argv[1], {}, "full") + check(argv[1], {.lora_rank = 3}, "adapters");
    return failures == 0 ? 0 : 1;
  } catch (const Error& error) {
    std::printf("%s: %s\n", error.code().c_str(), error.what());
    return 1;
  }
}
