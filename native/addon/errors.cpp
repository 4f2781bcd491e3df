#include "addon/errors.h"

#include <new>

#include "base/error.h"

namespace cllm {

Napi::Value make_error(Napi::Env env, const std::string& code, const std::string& message) {
  auto* data = env.GetInstanceData<AddonData>();
  if (data != nullptr && !data->error_class.IsEmpty()) {
    return data->error_class.New({Napi::String::New(env, code), Napi::String::New(env, message)});
  }
  const Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error.Value();
}

void rethrow_to_js(Napi::Env env) {
  try {
    throw;
  } catch (const Error& error) {
    throw Napi::Error(env, make_error(env, error.code(), error.what()));
  } catch (const std::bad_alloc&) {
    throw Napi::Error(env, make_error(env, "CLLM_OUT_OF_MEMORY", "Not enough memory"));
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, error.what());
  }
}

}  // namespace cllm
