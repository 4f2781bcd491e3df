#pragma once

#include <memory>

#include "addon/napi_api.h"
#include "model/model.h"

namespace cllm {

/// JS class Model: a reference to loaded weights. Decoders hold references of their own, so no order of disposal is
/// wrong.
class ModelObject : public Napi::ObjectWrap<ModelObject> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(Napi::Env env, std::shared_ptr<const Model> model);

  explicit ModelObject(const Napi::CallbackInfo& info);
  ~ModelObject() override;

 private:
  Napi::Value info(const Napi::CallbackInfo& info);
  Napi::Value metadata(const Napi::CallbackInfo& info);
  Napi::Value tokenize(const Napi::CallbackInfo& info);
  Napi::Value detokenize(const Napi::CallbackInfo& info);
  Napi::Value token(const Napi::CallbackInfo& info);
  Napi::Value chat_template(const Napi::CallbackInfo& info);
  Napi::Value create_decoder(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);
  const Model& model() const;
  void release();
  // Runs before the environment's finalisers. Contexts are freed by their own hooks, which were added later and so run
  // earlier.
  static void exit_hook(void* self);

  std::shared_ptr<const Model> model_;
  int64_t reported_bytes_ = 0;  // weights, as V8 knows them
};

}  // namespace cllm
