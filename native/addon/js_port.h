#pragma once

#include <functional>
#include <memory>

#include "addon/napi_api.h"

namespace cllm {

/// A way onto the JS thread for one producer thread: post() queues a function, the event loop runs it.
///
/// Lifetime, each rule paid for with an abort (seen with node 20):
/// - Calling a thread-safe function while its environment exits aborts. So the producer must be stopped and joined by
/// an
///   environment cleanup hook that is added AFTER the function was created (hooks run in reverse order): `on_exit`.
/// - The hook must be removed when the work is over, or it runs on freed memory: close() does.
/// - post() never blocks (unbounded queue), so a hook that joins the producer cannot deadlock with it.
class JsPort {
 public:
  using Job = std::function<void(Napi::Env)>;

  /// On the JS thread. `on_exit` stops and joins the producer; it runs at environment exit unless close() came first.
  JsPort(Napi::Env env, const char* name, std::function<void()> on_exit);
  ~JsPort();
  JsPort(const JsPort&) = delete;

  /// From any thread, before close(). After the environment has begun to exit the job is dropped.
  void post(Job job);
  /// On the JS thread: whether waiting jobs keep the event loop alive. A new port does not.
  void ref();
  void unref();
  /// On the JS thread, after the producer has ended. Jobs posted before still run. Idempotent.
  void close();

 private:
  static void call(napi_env env, napi_value callback, void* context, void* data);
  static void exit_hook(void* self);

  Napi::Env env_;
  napi_threadsafe_function function_ = nullptr;
  std::function<void()> on_exit_;
};

/// Runs `job` so that what it throws becomes an uncaught exception of the environment instead of an abort.
void run_guarded(Napi::Env env, const std::function<void()>& job);

}  // namespace cllm
