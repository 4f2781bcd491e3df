#pragma once

#include <string>

#include "addon/napi_api.h"

namespace cllm {

/// What the addon keeps per environment (a worker has its own).
struct AddonData {
  Napi::FunctionReference error_class;
  Napi::FunctionReference model_class;
  Napi::FunctionReference decoder_class;
  Napi::FunctionReference trainer_class;
};

/// An instance of lib's CllmError (or a plain Error with `code` before setErrorClass was called).
Napi::Value make_error(Napi::Env env, const std::string& code, const std::string& message);

/// Runs `body`, turning cllm::Error and other C++ exceptions into JS exceptions.
template <typename Body>
auto guarded(Napi::Env env, Body body) -> decltype(body());

[[noreturn]] void rethrow_to_js(Napi::Env env);

template <typename Body>
auto guarded(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    rethrow_to_js(env);
  }
}

}  // namespace cllm
