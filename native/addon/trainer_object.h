#pragma once

#include <memory>

#include "addon/napi_api.h"

namespace cllm {

/// createTrainer() of lib/addon.d.ts. It reads the base's header, lays out memory without taking it, and plans the
/// steps.
Napi::Value create_trainer(const Napi::CallbackInfo& call);

struct TrainerState;

/// NativeTrainer of lib/addon.d.ts. Every call starts a Task, and throws while another one is running.
class TrainerObject : public Napi::ObjectWrap<TrainerObject> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(Napi::Env env, std::shared_ptr<TrainerState> state);
  explicit TrainerObject(const Napi::CallbackInfo& call);

 private:
  Napi::Value info(const Napi::CallbackInfo& call);
  Napi::Value load(const Napi::CallbackInfo& call);
  Napi::Value run(const Napi::CallbackInfo& call);
  Napi::Value save_checkpoint(const Napi::CallbackInfo& call);
  Napi::Value write(const Napi::CallbackInfo& call);
  void dispose(const Napi::CallbackInfo& call);

  std::shared_ptr<TrainerState> state_;
};

}  // namespace cllm
