#include "addon/model_object.h"

#include "addon/convert.h"
#include "addon/decoder_object.h"
#include "addon/errors.h"
#include "addon/task.h"
#include "base/error.h"
#include "base/limits.h"
#include "decode/engine.h"
#include "llama/model_memory.h"
#include "llama/packed_buffer.h"

namespace cllm {

namespace {

using ModelPointer = std::shared_ptr<const Model>;

ContextOptions to_context_options(const Napi::Object& object) {
  ContextOptions options;
  options.context_size = static_cast<int>(to_integer(object.Get("contextSize"), "contextSize", 1, 1 << 30));
  options.lanes = static_cast<int>(to_integer(object.Get("lanes"), "lanes", 1, kMaxLanes));
  options.block_size = static_cast<int>(to_integer(object.Get("blockSize"), "blockSize", 1, kMaxBlockSize));
  options.threads = static_cast<int>(to_integer(object.Get("threads"), "threads", 1, 512));
  options.prefill_chunk = static_cast<int>(to_integer(object.Get("prefillChunk"), "prefillChunk", 0, 4096));
  options.consistency_model = to_bool(object.Get("consistencyModel"), "consistencyModel");
  const Napi::Value flash = object.Get("flashAttention");
  if (flash.IsBoolean()) options.flash_attention = flash.As<Napi::Boolean>().Value();
  options.kv_type = to_text(object.Get("kvType"), "kvType");
  options.swa_full = to_bool(object.Get("swaFull"), "swaFull");
  options.runner = to_text(object.Get("runner"), "runner");
  options.candidates = static_cast<int>(to_integer(object.Get("candidates"), "candidates", 1, kMaxCandidates));
  options.burst = static_cast<int>(to_integer(object.Get("burst"), "burst", 1, kMaxBurst));
  return options;
}

}  // namespace

Napi::Function ModelObject::define(Napi::Env env) {
  return DefineClass(
      env, "Model",
      {InstanceMethod<&ModelObject::info>("info"), InstanceMethod<&ModelObject::metadata>("metadata"),
       InstanceMethod<&ModelObject::tokenize>("tokenize"), InstanceMethod<&ModelObject::detokenize>("detokenize"),
       InstanceMethod<&ModelObject::token>("token"), InstanceMethod<&ModelObject::chat_template>("chatTemplate"),
       InstanceMethod<&ModelObject::create_decoder>("createDecoder"),
       InstanceMethod<&ModelObject::dispose>("dispose")});
}

Napi::Value ModelObject::create(Napi::Env env, ModelPointer model) {
  return env.GetInstanceData<AddonData>()->model_class.New({Napi::External<ModelPointer>::New(env, &model)});
}

ModelObject::ModelObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ModelObject>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), "Expected Model to be created by loadModel()");
  }
  model_ = *info[0].As<Napi::External<ModelPointer>>().Data();
  reported_bytes_ = static_cast<int64_t>(model_->info().file_size);
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), reported_bytes_);
  napi_add_env_cleanup_hook(info.Env(), &ModelObject::exit_hook, this);
}

ModelObject::~ModelObject() { release(); }

void ModelObject::release() {
  if (!model_) return;
  model_.reset();
  napi_remove_env_cleanup_hook(Env(), &ModelObject::exit_hook, this);
  Napi::MemoryManagement::AdjustExternalMemory(Env(), -reported_bytes_);
}

void ModelObject::exit_hook(void* self) { static_cast<ModelObject*>(self)->model_.reset(); }

const Model& ModelObject::model() const {
  if (!model_) throw Error("CLLM_DISPOSED", "The model is disposed");
  return *model_;
}

Napi::Value ModelObject::info(const Napi::CallbackInfo& call) {
  Napi::Env env = call.Env();
  return guarded(env, [&]() -> Napi::Value {
    const ModelInfo& info = model().info();
    auto object = Napi::Object::New(env);
    object.Set("description", info.description);
    object.Set("architecture", info.architecture);
    object.Set("parameterCount", info.parameter_count);
    object.Set("fileSize", info.file_size);
    object.Set("packedBytes", packed_weights(model_->handle()));
    object.Set("vocabSize", info.vocab_size);
    object.Set("vocabType", info.vocab_type);
    object.Set("trainContextSize", info.train_context_size);
    object.Set("embeddingSize", info.embedding_size);
    object.Set("layerCount", info.layer_count);
    object.Set("headCount", info.head_count);
    object.Set("headCountKv", info.head_count_kv);
    const ModelMemory memory = memory_of(model_->handle());
    object.Set("maxRollback",
               memory.max_rollback < 0 ? env.Null() : Napi::Value(Napi::Number::New(env, memory.max_rollback)));
    object.Set("kvBytesPerToken", memory.kv_bytes_per_token);
    object.Set("windowedKvBytesPerToken", memory.windowed_kv_bytes_per_token);
    object.Set("slidingWindow", memory.window);
    object.Set("stateBytes", memory.state_bytes);
    object.Set("bos", info.bos);
    object.Set("eos", info.eos);
    object.Set("eot", info.eot);
    object.Set("nl", info.nl);
    object.Set("pad", info.pad);
    object.Set("sep", info.sep);
    object.Set("addBos", info.add_bos);
    object.Set("addEos", info.add_eos);
    return object;
  });
}

Napi::Value ModelObject::metadata(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    auto object = Napi::Object::New(call.Env());
    for (const auto& [key, value] : model().metadata()) object.Set(key, value);
    return object;
  });
}

Napi::Value ModelObject::tokenize(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const auto tokens =
        model().tokenize(to_text(call[0], "text"), to_bool(call[1], "addSpecial"), to_bool(call[2], "parseSpecial"));
    return from_tokens(call.Env(), tokens);
  });
}

Napi::Value ModelObject::detokenize(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const auto tokens = to_tokens(call[0], model().info().vocab_size);
    return Napi::String::New(call.Env(),
                             model().detokenize(tokens.data(), tokens.size(), to_bool(call[1], "renderSpecial")));
  });
}

Napi::Value ModelObject::token(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const auto id = static_cast<Token>(to_integer(call[0], "token", 0, model().info().vocab_size - 1));
    auto object = Napi::Object::New(call.Env());
    object.Set("text", model().token_text(id));
    object.Set("attributes", model().token_attributes(id));
    object.Set("endOfGeneration", model().end_of_generation()[static_cast<size_t>(id)] != 0);
    return object;
  });
}

Napi::Value ModelObject::chat_template(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const std::string name = call[0].IsString() ? to_text(call[0], "name") : "";
    const auto text = model().chat_template(name.empty() ? nullptr : name.c_str());
    return text ? Napi::Value(Napi::String::New(call.Env(), *text)) : call.Env().Null();
  });
}

Napi::Value ModelObject::create_decoder(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    model();
    const ContextOptions options = to_context_options(to_object(call[0], "options"));
    if (!call[1].IsFunction()) throw Napi::TypeError::New(call.Env(), "Expected a function for onEvents");
    auto on_events = std::make_shared<Napi::FunctionReference>(Napi::Persistent(call[1].As<Napi::Function>()));
    return Task::start_promise(call.Env(), "cllm.createDecoder", [model = model_, options, on_events](Task&) {
      auto engine = std::make_shared<std::unique_ptr<Engine>>(std::make_unique<Engine>(model, options));
      return Task::Finish([engine, on_events](Napi::Env env) {
        return DecoderObject::create(env, std::move(*engine), on_events->Value());
      });
    });
  });
}

Napi::Value ModelObject::dispose(const Napi::CallbackInfo& call) {
  release();
  return call.Env().Undefined();
}

}  // namespace cllm
