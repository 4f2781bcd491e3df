#include "addon/js_port.h"

#include "addon/errors.h"

namespace cllm {

JsPort::JsPort(Napi::Env env, const char* name, std::function<void()> on_exit)
    : env_(env), on_exit_(std::move(on_exit)) {
  const napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, name), 0, 1,
                                                             nullptr, nullptr, nullptr, &JsPort::call, &function_);
  if (status != napi_ok) {
    throw Napi::Error(env, make_error(env, "CLLM_OUT_OF_MEMORY", "Node.js could not create a thread-safe function"));
  }
  napi_unref_threadsafe_function(env, function_);
  napi_add_env_cleanup_hook(env, &JsPort::exit_hook, this);
}

JsPort::~JsPort() { close(); }

void JsPort::post(Job job) {
  auto data = std::make_unique<Job>(std::move(job));
  if (function_ != nullptr && napi_call_threadsafe_function(function_, data.get(), napi_tsfn_nonblocking) == napi_ok) {
    data.release();  // call() owns it now
  }
}

void JsPort::ref() {
  if (function_ != nullptr) napi_ref_threadsafe_function(env_, function_);
}

void JsPort::unref() {
  if (function_ != nullptr) napi_unref_threadsafe_function(env_, function_);
}

void JsPort::close() {
  if (function_ == nullptr) return;
  napi_remove_env_cleanup_hook(env_, &JsPort::exit_hook, this);
  napi_release_threadsafe_function(function_, napi_tsfn_release);
  function_ = nullptr;
  // The closure is dropped last, because it may hold the last reference to the owner of this port.
  const auto on_exit = std::move(on_exit_);
}

void JsPort::exit_hook(void* data) {
  auto* self = static_cast<JsPort*>(data);
  const auto on_exit = std::move(self->on_exit_);  // dropped last, because it may own `self`
  on_exit();
  // The environment finalises the function itself right after its hooks.
  self->function_ = nullptr;
}

void JsPort::call(napi_env env, napi_value /*callback*/, void* /*context*/, void* data) {
  std::unique_ptr<Job> job(static_cast<Job*>(data));
  if (env == nullptr) return;  // the environment is gone, and the job is only freed
  Napi::HandleScope scope(env);
  run_guarded(env, [&] { (*job)(env); });
}

void run_guarded(Napi::Env env, const std::function<void()>& job) {
  try {
    job();
  } catch (const Napi::Error& error) {
    napi_fatal_exception(env, error.Value());
  } catch (...) {
    const Failure failure = current_failure();
    napi_fatal_exception(env, make_error(env, failure.code, failure.message));
  }
}

}  // namespace cllm
