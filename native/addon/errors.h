#pragma once

#include <string>

#include "addon/napi_api.h"

namespace cllm {

/// The addon's data of one environment. Every worker has its own.
struct AddonData {
  Napi::FunctionReference error_class;
  Napi::FunctionReference model_class;
  Napi::FunctionReference decoder_class;
  Napi::FunctionReference trainer_class;
};

/// An instance of lib's CllmError (or a plain Error with `code` before setErrorClass was called).
Napi::Value make_error(Napi::Env env, const std::string& code, const std::string& message);

/// A C++ exception in the form in which JavaScript gets it.
struct Failure {
  std::string code;  // of lib/errors.ts
  std::string message;
};

/// The exception that is being handled, as a failure. Call it in a catch block.
Failure current_failure();

[[noreturn]] void rethrow_to_js(Napi::Env env);

/// Runs `body`, turning cllm::Error and other C++ exceptions into JS exceptions with a code. Every function that
/// JavaScript calls and that can throw needs it: an exception that reaches Node's frames ends the process.
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
