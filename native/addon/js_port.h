#pragma once

#include <functional>
#include <memory>

#include "addon/napi_api.h"

namespace cllm {

/// Leads one producer thread to the JS thread: post() queues a function, and the event loop runs it.
///
/// Lifetime, each rule paid for with an abort (seen with node 20):
/// - Calling a thread-safe function while its environment exits aborts. So an environment cleanup hook stops and joins
///   the producer (`on_exit`). It is added AFTER the function was created, because hooks run in reverse order.
/// - The hook must be removed when the work is over, or it runs on freed memory. close() removes it.
/// - post() never blocks, since its queue has no bound. So a hook that joins the producer cannot deadlock with it.
class JsPort {
 public:
  using Job = std::function<void(Napi::Env)>;

  /// On the JS thread. `on_exit` stops and joins the producer; it runs at environment exit unless close() came first.
  /// Throws Napi::Error (CLLM_OUT_OF_MEMORY).
  JsPort(Napi::Env env, const char* name, std::function<void()> on_exit);
  ~JsPort();
  JsPort(const JsPort&) = delete;

  /// From any thread, before close(). The job is dropped where the environment has begun to exit.
  void post(Job job);
  /// On the JS thread. A port that is ref'd keeps the event loop alive. A new port is not ref'd.
  void ref();
  void unref();
  /// On the JS thread, after the producer has ended. Jobs that were posted before still run. Idempotent.
  void close();

 private:
  static void call(napi_env env, napi_value callback, void* context, void* data);
  static void exit_hook(void* self);

  Napi::Env env_;
  napi_threadsafe_function function_ = nullptr;
  std::function<void()> on_exit_;
};

/// Runs `job`. An exception from it becomes an uncaught exception of the environment instead of an abort.
void run_guarded(Napi::Env env, const std::function<void()>& job);

}  // namespace cllm
