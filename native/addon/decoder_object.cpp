#include "addon/decoder_object.h"

#include "addon/convert.h"
#include "addon/errors.h"
#include "addon/task.h"
#include "base/error.h"
#include "base/limits.h"

namespace cllm {

Napi::Function DecoderObject::define(Napi::Env env) {
  return DefineClass(
      env, "Decoder",
      {InstanceMethod<&DecoderObject::info>("info"), InstanceMethod<&DecoderObject::chosen>("chosen"),
       InstanceMethod<&DecoderObject::generate>("generate"), InstanceMethod<&DecoderObject::abort>("abort"),
       InstanceMethod<&DecoderObject::open_sequence>("openSequence"),
       InstanceMethod<&DecoderObject::close_sequence>("closeSequence"),
       InstanceMethod<&DecoderObject::prefill>("prefill"), InstanceMethod<&DecoderObject::iterate>("iterate"),
       InstanceMethod<&DecoderObject::rollback>("rollback"), InstanceMethod<&DecoderObject::fork>("fork"),
       InstanceMethod<&DecoderObject::dispose>("dispose")});
}

Napi::Value DecoderObject::create(Napi::Env env, std::unique_ptr<Engine> engine, Napi::Function on_events) {
  return env.GetInstanceData<AddonData>()->decoder_class.New(
      {Napi::External<std::unique_ptr<Engine>>::New(env, &engine), on_events});
}

DecoderObject::DecoderObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DecoderObject>(info) {
  if (info.Length() != 2 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), "Expected Decoder to be created by createDecoder()");
  }
  core_ = std::make_shared<Core>();
  core_->engine = std::move(*info[0].As<Napi::External<std::unique_ptr<Engine>>>().Data());
  core_->object = this;
  Core* core = core_.get();
  core_->port = std::make_unique<JsPort>(info.Env(), "cllm.decoder", [core] {
    if (core->engine) core->engine->stop();
    core->engine.reset();
  });

  // The object holds its callback as a property, and this reference is weak while nothing is pending: callback, decoder
  // and this object then form a plain cycle of JavaScript objects that the collector can free.
  const auto on_events = info[1].As<Napi::Function>();
  info.This().As<Napi::Object>().DefineProperty(Napi::PropertyDescriptor::Value("_onEvents", on_events, napi_default));
  on_events_ = Napi::Weak(on_events);

  reported_bytes_ = static_cast<int64_t>(core_->engine->context().memory_bytes());
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), reported_bytes_);

  std::weak_ptr<Core> weak = core_;
  core_->engine->start([core, weak](std::vector<Event>&& events) {
    auto shared = std::make_shared<std::vector<Event>>(std::move(events));
    core->port->post([weak, shared](Napi::Env env) {
      const auto alive = weak.lock();
      if (alive && alive->object != nullptr) alive->object->deliver(env, *shared);
    });
  });
}

DecoderObject::~DecoderObject() {
  core_->object = nullptr;
  if (core_->engine) core_->engine->stop();
  core_->engine.reset();
  core_->port->close();
  release_memory();
}

void DecoderObject::release_memory() {
  if (reported_bytes_ != 0) Napi::MemoryManagement::AdjustExternalMemory(Env(), -reported_bytes_);
  reported_bytes_ = 0;
}

Engine& DecoderObject::engine() const {
  if (!core_->engine) throw Error("CLLM_DISPOSED", "The decoder is disposed");
  return *core_->engine;
}

namespace {

Napi::Value from_launched(Napi::Env env, const std::optional<ResidentRunner::Launched>& launched) {
  if (!launched) return env.Null();
  auto object = Napi::Object::New(env);
  const bool recorded = launched->recorded != Recorded::kNothing;
  const char* each = !recorded ? "kernel" : launched->recorded == Recorded::kLoop ? "burst" : "iteration";
  object.Set("each", Napi::String::New(env, each));
  object.Set("kernels",
             recorded ? Napi::Value(Napi::Number::New(env, static_cast<double>(launched->nodes))) : env.Null());
  object.Set("reason", launched->refusal.empty() ? env.Null() : Napi::Value(Napi::String::New(env, launched->refusal)));
  return object;
}

}  // namespace

Napi::Value DecoderObject::info(const Napi::CallbackInfo& call) {
  Napi::Env env = call.Env();
  return guarded(env, [&]() -> Napi::Value {
    const ContextOptions& options = engine().context().options();
    auto object = Napi::Object::New(env);
    const auto number = [&](const char* name, double value) { object.Set(name, Napi::Number::New(env, value)); };
    object.Set("runner", Napi::String::New(env, engine().runner_name()));
    object.Set("runnerReason", Napi::String::New(env, engine().runner_reason()));
    object.Set("launches", from_launched(env, engine().launched()));
    number("burst", options.burst);
    number("contextSize", options.context_size);
    number("lanes", options.lanes);
    number("blockSize", options.block_size);
    number("candidates", engine().candidates());
    number("threads", options.threads);
    number("prefillChunk", options.prefill_chunk);
    object.Set("flashAttention",
               options.flash_attention ? Napi::Value(Napi::Boolean::New(env, *options.flash_attention)) : env.Null());
    object.Set("kvType", Napi::String::New(env, options.kv_type));
    object.Set("swaFull", Napi::Boolean::New(env, options.swa_full));
    const Context& context = engine().context();
    const auto states = static_cast<double>(context.state_bytes());
    number("kvBytes", static_cast<double>(context.memory_bytes()) - states);
    number("stateBytes", states);
    object.Set("maxRollback",
               context.max_rollback() < 0 ? env.Null() : Napi::Value(Napi::Number::New(env, context.max_rollback())));
    return object;
  });
}

Napi::Value DecoderObject::chosen(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const PassShape shape = engine().chosen();
    if (shape.block == 0) return call.Env().Null();
    auto object = Napi::Object::New(call.Env());
    object.Set("blockSize", Napi::Number::New(call.Env(), shape.block));
    object.Set("candidates", Napi::Number::New(call.Env(), shape.candidates));
    return object;
  });
}

Napi::Value DecoderObject::post(const Napi::CallbackInfo& call, Command::Kind kind,
                                const std::function<void(Command&)>& fill) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    Engine& target = engine();
    Command command{.kind = kind, .id = static_cast<uint32_t>(to_integer(call[0], "id", 1, UINT32_MAX))};
    fill(command);
    if (kind != Command::Kind::kAbort && pending_++ == 0) {
      on_events_.Ref();
      core_->port->ref();
    }
    target.post(std::move(command));
    return call.Env().Undefined();
  });
}

namespace {

uint32_t to_sequence(const Napi::Value& value) {
  return static_cast<uint32_t>(to_integer(value, "sequence", 1, UINT32_MAX));
}

void read_decode_params(const Napi::Object& from, int min_block, const Context& context, DecodeParams& params) {
  params.block_size =
      static_cast<int>(to_integer(from.Get("blockSize"), "blockSize", min_block, context.options().block_size));
  params.seed = static_cast<uint32_t>(to_integer(from.Get("seed"), "seed", 0, UINT32_MAX));
  params.draft_source = to_draft_source(from.Get("draftSource"));
  params.choosing = to_choosing(from.Get("choosing"), context.model().info().vocab_size);
}

}  // namespace

Napi::Value DecoderObject::generate(const Napi::CallbackInfo& call) {
  return post(call, Command::Kind::kGenerate, [&](Command& command) {
    const auto request = to_object(call[1], "request");
    const Context& context = engine().context();
    command.sequence = static_cast<uint32_t>(to_integer(request.Get("sequence"), "sequence", 0, UINT32_MAX));
    command.tokens = to_tokens(request.Get("tokens"), context.model().info().vocab_size);
    if (command.tokens.empty()) throw Napi::RangeError::New(call.Env(), "Expected at least one token");
    GenerateParams& params = command.generate;
    params.max_tokens = to_integer(request.Get("maxTokens"), "maxTokens", 1, INT64_C(1) << 53);
    read_decode_params(request, 0, context, params);
    const auto stop = request.Get("stop").As<Napi::Array>();
    for (uint32_t i = 0; i < stop.Length(); i++) {
      params.stop.push_back(to_text(stop.Get(i), "stop"));
      if (params.stop.back().empty())
        throw Napi::RangeError::New(call.Env(), "Expected stop strings that are not empty");
    }
    params.stream = to_bool(request.Get("stream"), "stream");
    params.render_special = to_bool(request.Get("renderSpecial"), "renderSpecial");
    params.logprobs = static_cast<int>(to_integer(request.Get("logprobs"), "logprobs", -1, kMaxLogprobs));
    if (!request.Get("rules").IsNull()) {
      RuleOptions rules = to_rules(request.Get("rules"));
      rules.mask_always = params.logprobs >= 0;
      params.rules = std::make_shared<TokenRules>(context.model(), rules, command.tokens);
    }
  });
}

Napi::Value DecoderObject::abort(const Napi::CallbackInfo& call) {
  return post(call, Command::Kind::kAbort, [](Command&) {});
}

Napi::Value DecoderObject::open_sequence(const Napi::CallbackInfo& call) {
  return post(call, Command::Kind::kOpenSequence, [](Command&) {});
}

Napi::Value DecoderObject::close_sequence(const Napi::CallbackInfo& call) {
  return post(call, Command::Kind::kCloseSequence, [&](Command& command) { command.sequence = to_sequence(call[1]); });
}

Napi::Value DecoderObject::prefill(const Napi::CallbackInfo& call) {
  return post(call, Command::Kind::kPrefill, [&](Command& command) {
    command.sequence = to_sequence(call[1]);
    command.tokens = to_tokens(call[2], engine().context().model().info().vocab_size);
    if (command.tokens.empty()) throw Napi::RangeError::New(call.Env(), "Expected at least one token");
  });
}

Napi::Value DecoderObject::iterate(const Napi::CallbackInfo& call) {
  return post(call, Command::Kind::kIterate, [&](Command& command) {
    const auto options = to_object(call[2], "options");
    const Context& context = engine().context();
    command.sequence = to_sequence(call[1]);
    IterateParams& params = command.iterate;
    read_decode_params(options, 1, context, params);
    params.logits = to_bool(options.Get("logits"), "logits");
    if (options.Get("draft").IsNull()) return;
    params.draft = to_tokens(options.Get("draft"), context.model().info().vocab_size);
    if (params.draft->size() + 1 != static_cast<size_t>(params.block_size)) {
      throw Napi::RangeError::New(call.Env(), "Expected a draft of blockSize - 1 tokens");
    }
  });
}

Napi::Value DecoderObject::rollback(const Napi::CallbackInfo& call) {
  return post(call, Command::Kind::kRollback, [&](Command& command) {
    command.sequence = to_sequence(call[1]);
    command.position = static_cast<int>(to_integer(call[2], "position", 0, 1 << 30));
  });
}

Napi::Value DecoderObject::fork(const Napi::CallbackInfo& call) {
  return post(call, Command::Kind::kFork, [&](Command& command) { command.sequence = to_sequence(call[1]); });
}

void DecoderObject::deliver(Napi::Env env, const std::vector<Event>& events) {
  const auto on_events = on_events_.Value();
  auto array = Napi::Array::New(env, events.size());
  size_t answered = 0;
  for (size_t i = 0; i < events.size(); i++) {
    array.Set(static_cast<uint32_t>(i), from_event(env, events[i]));
    answered += events[i].type != Event::Type::kChunk;
  }
  // The count must be right before the call, because the callback may post further commands.
  count_answers(answered);
  if (!on_events.IsEmpty()) on_events.Call({array});
}

void DecoderObject::count_answers(size_t count) {
  if (count == 0) return;
  pending_ -= count;
  if (pending_ != 0) return;
  on_events_.Unref();
  core_->port->unref();
}

Napi::Value DecoderObject::dispose(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    release_memory();
    const auto core = core_;
    // The task frees the engine, not the object's finaliser. Moving it out makes every later call report CLLM_DISPOSED.
    auto engine = std::make_shared<std::unique_ptr<Engine>>(std::move(core_->engine));
    Ref();  // `this` lives until the last event is delivered
    return Task::start_promise(
        call.Env(), "cllm.dispose",
        [this, core, engine](Task&) {
          if (*engine) (*engine)->stop();
          engine->reset();
          return Task::Finish([this, core](Napi::Env env) {
            core->port->close();
            Unref();
            return env.Undefined();
          });
        },
        Task::WithoutThread::kRunOnCallingThread);
  });
}

}  // namespace cllm
