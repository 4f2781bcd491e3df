#pragma once

#include <memory>

#include "addon/js_port.h"
#include "addon/napi_api.h"
#include "decode/engine.h"

namespace cllm {

/// JS class Decoder: an Engine, and the port through which its events reach JavaScript.
///
/// Lifetime: while a command is pending, the event loop and this object are kept alive; otherwise neither is, so a
/// program that forgets dispose() still ends, and a forgotten decoder is collected. dispose() stops the thread and
/// frees the context on a thread of its own; the environment's exit and the finaliser do the same in place.
class DecoderObject : public Napi::ObjectWrap<DecoderObject> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(Napi::Env env, std::unique_ptr<Engine> engine, Napi::Function on_events);

  explicit DecoderObject(const Napi::CallbackInfo& info);
  ~DecoderObject() override;

 private:
  // The part that outlives the JS object while dispose() runs. Queued events refer to it.
  struct Core {
    std::unique_ptr<Engine> engine;
    std::unique_ptr<JsPort> port;
    DecoderObject* object = nullptr;  // null once collected or disposed
  };

  Napi::Value info(const Napi::CallbackInfo& info);
  Napi::Value chosen(const Napi::CallbackInfo& info);
  Napi::Value generate(const Napi::CallbackInfo& info);
  Napi::Value abort(const Napi::CallbackInfo& info);
  Napi::Value open_sequence(const Napi::CallbackInfo& info);
  Napi::Value close_sequence(const Napi::CallbackInfo& info);
  Napi::Value prefill(const Napi::CallbackInfo& info);
  Napi::Value iterate(const Napi::CallbackInfo& info);
  Napi::Value rollback(const Napi::CallbackInfo& info);
  Napi::Value fork(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  Engine& engine() const;
  Napi::Value post(const Napi::CallbackInfo& info, Command::Kind kind, const std::function<void(Command&)>& fill);
  void deliver(Napi::Env env, const std::vector<Event>& events);
  void count_answers(size_t count);
  void release_memory();

  std::shared_ptr<Core> core_;
  Napi::FunctionReference on_events_;  // strong while commands are pending, else weak
  size_t pending_ = 0;                 // commands without an answer
  int64_t reported_bytes_ = 0;         // KV cache, as V8 knows it
};

}  // namespace cllm
