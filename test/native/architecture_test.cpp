// Loads a generated model of an architecture, in each of the types, as node-cllm does, and decodes with it:
//   cllm-architecture-test ARCH TYPE...   types as cllm-make-model has them; `every` is every architecture
//   cllm-architecture-test --with WORDS ARCH TYPE...   with words of a recipe (model_recipe.h)
// Prints a line per failure and per architecture that is not decoded, and at the end the number of models; exits with 1
// if there is a failure.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "decode/context.h"
#include "llama-arch.h"
#include "llama.h"
#include "llama/model_memory.h"
#include "llama/packed_buffer.h"
#include "model/model.h"
#include "model/model_file.h"
#include "model_writer.h"
#include "products/product_set.h"

using namespace cllm;

namespace {

/// llama.cpp v0.5.0 makes no graph of it: llama_kv_cache::cpy_v takes its values for those of one head.
constexpr const char* kBroken = "plm";
constexpr Token kPrompt[] = {5, 201, 77, 3, 130, 9};
constexpr int kTokens = 24;  // prompt and text

/// A file below the temporary directory, for as long as this object lives.
struct Scratch {
  std::string path =
      (std::filesystem::temp_directory_path() / ("cllm-architecture-" + std::to_string(std::random_device()())))
          .string();
  ~Scratch() { std::filesystem::remove(path); }
};

std::unique_ptr<Context> make_context(const std::shared_ptr<const Model>& model) {
  ContextOptions options;
  options.context_size = 64;
  options.prefill_chunk = 8;
  options.block_size = memory_of(model->handle()).max_rollback == 0 ? 1 : 2;
  return std::make_unique<Context>(model, options);
}

Token choose(const float* logits, int vocab) {
  for (int i = 0; i < vocab; i++) {
    if (!std::isfinite(logits[i])) throw std::runtime_error("logits that are not numbers");
  }
  return static_cast<Token>(std::max_element(logits, logits + vocab) - logits);
}

/// Greedy text behind the prompt, a token a pass. A block's second token is a draft that is rejected.
std::set<Token> decode(Context& context) {
  const int vocab = context.model().info().vocab_size;
  std::set<Token> text;
  Token tokens[] = {0, 7};
  for (int position = 0; position < kTokens; position++) {
    if (position < std::ssize(kPrompt)) tokens[0] = kPrompt[position];
    const auto block = std::span<const Token>(tokens).first(static_cast<size_t>(context.options().block_size));
    const LaneTokens lane{0, position, block};
    if (context.decode({&lane, 1}, true) != PassResult::kOk) throw std::runtime_error("a pass failed");
    tokens[0] = choose(context.logits(), vocab);
    if (position + 1 >= std::ssize(kPrompt)) text.insert(tokens[0]);
    context.trim(0, position + 1);
  }
  return text;
}

/// Returns why node-cllm does not decode models of the architecture, or an empty string where it has decoded this one.
std::string check(const ModelRecipe& recipe, const std::string& type, const std::string& path) {
  try {
    write_model(recipe, type, {}, path);
  } catch (const std::exception& error) {
    return std::string("no model: ") + error.what();
  }
  if (const auto problem = check_model_file(path)) throw Error(problem->code, problem->message);
  LoadOptions options;
  options.has_k_products = product_set() != nullptr;
  const auto model = std::make_shared<const Model>(path, options, [](float) { return true; });
  if (const std::string why = model->why_not_decodable(); !why.empty()) return why;
  std::unique_ptr<Context> context;
  try {
    context = make_context(model);
  } catch (const Error& error) {
    if (recipe.architecture() != kBroken) throw;
    return std::string("no graph: ") + error.what();
  }
  if (context->options().block_size == 1) std::printf("%s: blocks of one token\n", recipe.architecture().c_str());
  // A text that repeats one token tests little.
  if (const size_t different = decode(*context).size(); different < 2) {
    throw std::runtime_error("a text that repeats one token");
  }
  return "";
}

std::vector<std::string> architectures(const std::string& request) {
  if (request != "every") return {request};
  std::vector<std::string> names;
  for (const llm_arch architecture : llm_arch_all()) {
    if (architecture != LLM_ARCH_UNKNOWN) names.push_back(llm_arch_name(architecture));
  }
  return names;
}

}  // namespace

int main(int count, char** arguments) {
  std::string words;
  if (count > 2 && std::string(arguments[1]) == "--with") {
    words = arguments[2];
    arguments += 2;
    count -= 2;
  }
  if (count < 3) return std::fprintf(stderr, "usage: cllm-architecture-test [--with WORDS] ARCH|every TYPE...\n"), 2;
  install_ggml_guard();
  register_packed_buffer();
  const Scratch scratch;
  int failures = 0, decoded = 0;
  for (const std::string& architecture : architectures(arguments[1])) {
    ModelRecipe recipe(architecture);
    recipe.add(words);
    for (int i = 2; i < count; i++) {
      try {
        const std::string refusal = check(recipe, arguments[i], scratch.path);
        if (refusal.empty()) {
          decoded++;
        } else {
          std::printf("%s: %s\n", architecture.c_str(), refusal.c_str());
          break;  // so in every type
        }
      } catch (const std::exception& error) {
        failures++;
        std::printf("FAILED %s %s: %s\n", architecture.c_str(), arguments[i], error.what());
      }
      std::fflush(stdout);
    }
  }
  std::printf("%d models decoded, %d failures\n", decoded, failures);
  return failures == 0 ? 0 : 1;
}
