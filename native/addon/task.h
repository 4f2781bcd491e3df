#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "addon/js_port.h"
#include "addon/napi_api.h"

namespace cllm {

/// One long job on a thread of its own, answered by a promise. Not a Napi::AsyncWorker: those starve the libuv pool and
/// delay a worker's terminate() by the length of the job.
class Task : public std::enable_shared_from_this<Task> {
 public:
  /// Runs on the task's thread; may throw cllm::Error. Returns the function that makes the promise's value on the JS
  /// thread.
  using Finish = std::function<Napi::Value(Napi::Env)>;
  using Work = std::function<Finish(Task&)>;

  /// Starts the thread. `on_progress` may be empty. Returns {promise, cancel()}.
  static Napi::Object start(Napi::Env env, const char* name, Work work, Napi::Function on_progress);
  /// The same for what cannot be cancelled: just the promise.
  static Napi::Promise start_promise(Napi::Env env, const char* name, Work work);

  // For the work, on its thread:
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  /// Reports 0..1; only whole percents that differ from the last reach JavaScript.
  void progress(double fraction);

 private:
  Task(Napi::Env env, Work work) : deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work)) {}
  void launch(Napi::Env env, const char* name);
  void settle(Napi::Env env);

  Napi::Promise::Deferred deferred_;
  Work work_;
  Napi::FunctionReference on_progress_;
  std::unique_ptr<JsPort> port_;
  std::thread thread_;
  std::atomic<bool> cancelled_{false};
  int last_percent_ = -1;
  Finish finish_;
  std::string error_code_;  // empty = no failure
  std::string error_message_;
};

}  // namespace cllm
