#include "addon/errors.h"

#include <new>
#include <system_error>

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

Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {"CLLM_OUT_OF_MEMORY", "Not enough memory"};
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::resource_unavailable_try_again) return {"CLLM_NOT_SUPPORTED", error.what()};
    return {"CLLM_OUT_OF_MEMORY", "No thread could be started: a limit of threads or of memory is reached"};
  } catch (const std::exception& error) {
    return {"CLLM_NOT_SUPPORTED", error.what()};
  }
}

void rethrow_to_js(Napi::Env env) {
  const Failure failure = current_failure();
  throw Napi::Error(env, make_error(env, failure.code, failure.message));
}

}  // namespace cllm
