// Makes GGUF files with random weights, without a tokenizer: models of every architecture that llama.cpp has.
//
//   cllm-make-model ARCH OUT.gguf [--type f32] [--layers N] [--vocab N] [--context N] [--window N] [--stdev X]
//                                 [--seed N] [--with WORDS]
//   cllm-make-model --shape NAME OUT.gguf [the same]   a model of a size that people use (real_recipes.cpp)
//   cllm-make-model --list                             the architectures and the memory that llama.cpp gives them
//
// --type: f32, f16, bf16, or a type of llama-quantize (q8_0, q4_0, q4_k ...); llama.cpp's rules say which tensors get
// it.
// --stdev: of all matrices; otherwise 1.6 / sqrt(inputs). --with: words of a recipe (model_recipe.h), which win.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/ggml_guard.h"
#include "llama-arch.h"
#include "model_writer.h"

using namespace cllm;

namespace {

struct Request {
  std::vector<std::string> names;  // ARCH and OUT.gguf
  std::string type = "f32", shape, words;
  WeightOptions weights;
  bool list = false;
};

Request read_request(int count, char** arguments) {
  Request request;
  for (int i = 1; i < count; i++) {
    const std::string name = arguments[i];
    if (name == "--list") {
      request.list = true;
      continue;
    }
    if (!name.starts_with("--")) {
      request.names.push_back(name);
      continue;
    }
    if (i + 1 == count) throw std::runtime_error("Expected a value for " + name);
    const std::string value = arguments[++i];
    if (name == "--type") {
      request.type = value;
    } else if (name == "--shape") {
      request.shape = value;
    } else if (name == "--layers") {
      request.words += " block_count=" + value;
    } else if (name == "--vocab") {
      request.words += " vocab_size=" + value;
    } else if (name == "--context") {
      request.words += " context_length=" + value;
    } else if (name == "--window") {
      request.words += " attention.sliding_window=" + value;
    } else if (name == "--stdev") {
      request.weights.deviation = std::stof(value);
    } else if (name == "--seed") {
      request.weights.seed = std::stoull(value);
    } else if (name == "--with") {
      request.words += " " + value;
    } else {
      throw std::runtime_error("There is no option " + name);
    }
  }
  return request;
}

void list() {
  const auto scratch =
      std::filesystem::temp_directory_path() / ("cllm-make-model-" + std::to_string(std::random_device()()));
  for (const llm_arch architecture : llm_arch_all()) {
    if (architecture == LLM_ARCH_UNKNOWN) continue;
    const char* name = llm_arch_name(architecture);
    std::printf("%-18s ", name);
    std::fflush(stdout);
    try {
      std::printf("%s\n", memory_class(ModelRecipe(name), scratch.string()).c_str());
    } catch (const std::exception& error) {
      std::printf("- %s\n", error.what());
    }
  }
  std::filesystem::remove(scratch);
}

void make(const Request& request) {
  std::string architecture, path;
  const RealShape* shape = find_real_shape(request.shape);
  if (!request.shape.empty() && shape == nullptr) {
    throw std::runtime_error("Expected one of " + real_shape_names() + " for --shape but received " + request.shape);
  }
  if (request.names.size() != (shape == nullptr ? 2u : 1u))
    throw std::runtime_error("Expected ARCH OUT.gguf, or --list");
  ModelRecipe recipe(shape == nullptr ? request.names.front() : shape->architecture);
  if (shape != nullptr) recipe.add(shape->recipe);
  recipe.add(request.words);
  write_model(recipe, request.type, request.weights, request.names.back());
}

}  // namespace

int main(int count, char** arguments) {
  install_ggml_guard();
  try {
    const Request request = read_request(count, arguments);
    request.list ? list() : make(request);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
