#include <cstdlib>
#include <mutex>
#include <optional>
#include <sstream>

#include "addon/convert.h"
#include "addon/decoder_object.h"
#include "addon/devices.h"
#include "addon/errors.h"
#include "addon/kernel_calls.h"
#include "addon/model_object.h"
#include "addon/napi_api.h"
#include "addon/task.h"
#include "addon/trainer_object.h"
#include "base/error.h"
#include "base/ggml_guard.h"
#include "base/limits.h"
#include "ggml-backend.h"
#include "llama.h"
#include "llama/cuda_stream.h"
#include "llama/json_schema.h"
#include "llama/packed_buffer.h"
#include "model/adapter.h"
#include "model/quantize.h"
#include "products/bf16_product.h"
#include "products/bf16_product_amx.h"
#include "products/product_set.h"

namespace cllm {

namespace {

Napi::Value set_error_class(const Napi::CallbackInfo& call) {
  if (!call[0].IsFunction()) throw Napi::TypeError::New(call.Env(), "Expected a class for errorClass");
  call.Env().GetInstanceData<AddonData>()->error_class = Napi::Persistent(call[0].As<Napi::Function>());
  return call.Env().Undefined();
}

// CPU features that ggml says it was compiled with, e.g. "AVX2".
std::vector<std::string> compiled_features() {
  std::vector<std::string> features;
  for (size_t i = 0; i < ggml_backend_reg_count(); i++) {
    ggml_backend_reg_t reg = ggml_backend_reg_get(i);
    const auto get = reinterpret_cast<ggml_backend_get_features_t>(
        ggml_backend_reg_get_proc_address(reg, "ggml_backend_get_features"));
    if (get == nullptr) continue;
    for (auto* feature = get(reg); feature->name != nullptr; feature++) {
      if (std::string(feature->value) != "0") features.push_back(feature->name);
    }
  }
  return features;
}

Napi::Value build_info(const Napi::CallbackInfo& call) {
  Napi::Env env = call.Env();
  auto info = Napi::Object::New(env);
  info.Set("cpuLevel", CLLM_CPU_LEVEL);
#ifdef CLLM_CUDA
  info.Set("backend", "cuda");
#else
  info.Set("backend", "cpu");
#endif
  info.Set("llamaVersion", CLLM_LLAMA_VERSION);
  info.Set("llamaCommit", CLLM_LLAMA_COMMIT);
  info.Set("compiler", __VERSION__);
  const auto features = compiled_features();
  auto array = Napi::Array::New(env, features.size());
  for (size_t i = 0; i < features.size(); i++) array.Set(static_cast<uint32_t>(i), features[i]);
  info.Set("features", array);
  auto products = Napi::Array::New(env);
  if (product_set() != nullptr) products.Set(0u, product_set()->name);
  if (has_bf16_product()) products.Set(1u, has_amx() ? "amx-bf16" : "avx512-bf16");
  info.Set("products", products);
  return info;
}

Napi::Value limits(const Napi::CallbackInfo& call) {
  Napi::Env env = call.Env();
  auto object = Napi::Object::New(env);
  const auto set = [&](const char* name, int value) { object.Set(name, Napi::Number::New(env, value)); };
  set("maxBlockSize", kMaxBlockSize);
  set("maxLanes", kMaxLanes);
  set("maxCandidates", kMaxCandidates);
  set("maxBurst", kMaxBurst);
  set("maxPartTokens", kMaxPartTokens);
  set("maxPassTokens", kMaxPassTokens);
  set("maxWindowPassTokens", kMaxWindowPassTokens);
  set("maxLogprobs", kMaxLogprobs);
  return object;
}

Napi::Function to_progress(const Napi::Value& value) {
  if (value.IsFunction()) return value.As<Napi::Function>();
  if (!value.IsNull()) throw Napi::TypeError::New(value.Env(), "Expected a function or null for onProgress");
  return Napi::Function();
}

std::vector<AdapterSource> to_adapters(const Napi::Value& value) {
  if (!value.IsArray()) throw Napi::TypeError::New(value.Env(), "Expected an array for adapters");
  std::vector<AdapterSource> sources;
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) {
    const auto object = to_object(array.Get(i), "adapter");
    sources.push_back(
        {to_text(object.Get("path"), "path"), static_cast<float>(to_number(object.Get("scale"), "scale"))});
  }
  return sources;
}

Napi::Value load_model(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const std::string path = to_text(call[0], "path");
    const auto object = to_object(call[1], "options");
    LoadOptions options;
    options.gpu_layers = static_cast<int>(to_integer(object.Get("gpuLayers"), "gpuLayers", -1, 1 << 20));
    options.mmap = to_bool(object.Get("mmap"), "mmap");
    options.pack_weights = to_bool(object.Get("packWeights"), "packWeights");
    options.has_k_products = product_set() != nullptr;
    const auto sources = to_adapters(object.Get("adapters"));
    const int threads = static_cast<int>(to_integer(object.Get("threads"), "threads", 1, 512));
    return Task::start(
        call.Env(), "cllm.loadModel",
        [path, options, sources, threads](Task& task) mutable {
          std::optional<Adapters> adapters;
          if (!sources.empty()) {
            adapters.emplace(sources, path, threads);
            options.filter = &*adapters;
            options.notes = adapters->notes();
          }
          auto model = std::make_shared<const Model>(path, options, [&](float fraction) {
            task.progress(fraction);
            return !task.cancelled();
          });
          if (adapters) filter_unpacked(model->handle(), *adapters);
          return Task::Finish([model](Napi::Env env) { return ModelObject::create(env, model); });
        },
        to_progress(call[2]));
  });
}

Napi::Value merge_adapters(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const std::string base = to_text(call[0], "base"), output = to_text(call[1], "output");
    const auto object = to_object(call[2], "options");
    const auto sources = to_adapters(object.Get("adapters"));
    const int threads = static_cast<int>(to_integer(object.Get("threads"), "threads", 1, 512));
    return Task::start(
        call.Env(), "cllm.mergeAdapters",
        [base, sources, output, threads](Task& task) {
          merge_model(base, sources, output, threads, [&](float fraction) {
            task.progress(fraction);
            return !task.cancelled();
          });
          return Task::Finish([](Napi::Env env) { return env.Undefined(); });
        },
        to_progress(call[3]));
  });
}

Napi::Value quantize(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const auto object = to_object(call[2], "options");
    QuantizeOptions options;
    options.input = to_text(call[0], "input");
    options.output = to_text(call[1], "output");
    options.type = to_text(object.Get("type"), "type");
    options.threads = static_cast<int>(to_integer(object.Get("threads"), "threads", 1, 512));
    options.allow_requantize = to_bool(object.Get("allowRequantize"), "allowRequantize");
    return Task::start(
        call.Env(), "cllm.quantize",
        [options](Task& task) {
          quantize_model(options, [&](float fraction) {
            task.progress(fraction);
            return !task.cancelled();
          });
          return Task::Finish([](Napi::Env env) { return env.Undefined(); });
        },
        to_progress(call[3]));
  });
}

Napi::Value json_schema_grammar(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const GgmlGuard guard;
    try {
      return Napi::String::New(call.Env(), grammar_of_json_schema(to_text(call[0], "schema")));
    } catch (const GgmlAbort& abort) {
      throw Error("CLLM_INVALID_GRAMMAR", abort.what());
    }
  });
}

// Runs once per process and not per environment: workers load the same library again.
void initialise_libraries() {
  static std::once_flag once;
  std::call_once(once, [] {
    install_ggml_guard();
#ifdef CLLM_CUDA
    // ggml's own graphs end in an illegal instruction where the shape of passes changes (H200, 8 lanes, blocks of 16
    // and then 32), unless cuda_graph_update.cu is right about why. Beside recordings of ours they have no place.
    if (cuda_graphs() != CudaGraphs::kGgml) setenv("GGML_CUDA_DISABLE_GRAPHS", "1", 1);
#endif
    llama_backend_init();
    register_packed_buffer();
  });
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  initialise_libraries();
  auto* data = new AddonData();
  env.SetInstanceData(data);  // deleted with the environment
  const auto model = ModelObject::define(env);
  const auto decoder = DecoderObject::define(env);
  data->model_class = Napi::Persistent(model);
  data->decoder_class = Napi::Persistent(decoder);
  const auto trainer = TrainerObject::define(env);
  data->trainer_class = Napi::Persistent(trainer);
  exports.Set("Model", model);
  exports.Set("Decoder", decoder);
  exports.Set("Trainer", trainer);
  exports.Set("setErrorClass", Napi::Function::New(env, set_error_class, "setErrorClass"));
  exports.Set("buildInfo", Napi::Function::New(env, build_info, "buildInfo"));
  exports.Set("limits", Napi::Function::New(env, limits, "limits"));
  exports.Set("devices", Napi::Function::New(env, list_devices, "devices"));
  exports.Set("loadModel", Napi::Function::New(env, load_model, "loadModel"));
  exports.Set("chooseTokens", Napi::Function::New(env, choose_tokens, "chooseTokens"));
  exports.Set("verifyBlocks", Napi::Function::New(env, verify_blocks, "verifyBlocks"));
  exports.Set("createTrainer", Napi::Function::New(env, create_trainer, "createTrainer"));
  exports.Set("jsonSchemaGrammar", Napi::Function::New(env, json_schema_grammar, "jsonSchemaGrammar"));
  exports.Set("mergeAdapters", Napi::Function::New(env, merge_adapters, "mergeAdapters"));
  exports.Set("quantize", Napi::Function::New(env, quantize, "quantize"));
  return exports;
}

}  // namespace

}  // namespace cllm

static Napi::Object init(Napi::Env env, Napi::Object exports) { return cllm::initialise(env, exports); }

NODE_API_MODULE(cllm, init)
