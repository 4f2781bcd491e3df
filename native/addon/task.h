#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "addon/errors.h"
#include "addon/js_port.h"
#include "addon/napi_api.h"

namespace cllm {

/// One long job on a thread of its own, answered by a promise. It is no Napi::AsyncWorker, because async workers starve
/// the libuv pool and delay a worker's terminate() by the length of the job.
class Task : public std::enable_shared_from_this<Task> {
 public:
  /// Work runs on the task's thread and may throw cllm::Error. It returns the function that makes the promise's value
  /// on the JS thread.
  using Finish = std::function<Napi::Value(Napi::Env)>;
  using Work = std::function<Finish(Task&)>;

  /// What becomes of the work where the system lets no thread start.
  enum class WithoutThread {
    kReject,             // the promise is rejected with CLLM_OUT_OF_MEMORY
    kRunOnCallingThread  // for work that gives memory back and must not fail
  };

  /// Starts the thread. `on_progress` may be empty. Returns {promise, cancel()}.
  static Napi::Object start(Napi::Env env, const char* name, Work work, Napi::Function on_progress);
  /// Starts the thread for work that cannot be cancelled, and returns the promise alone.
  static Napi::Promise start_promise(Napi::Env env, const char* name, Work work,
                                     WithoutThread without_thread = WithoutThread::kReject);

  // The work calls these, on its thread.
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  /// Reports 0..1. Only a whole percent that differs from the one before reaches JavaScript.
  void progress(double fraction);

 private:
  Task(Napi::Env env, Work work) : deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work)) {}
  void launch(Napi::Env env, const char* name, WithoutThread without_thread);
  void run();
  void post_settle();
  void settle(Napi::Env env);

  Napi::Promise::Deferred deferred_;
  Work work_;
  Napi::FunctionReference on_progress_;
  std::unique_ptr<JsPort> port_;
  std::thread thread_;
  std::atomic<bool> cancelled_{false};
  int last_percent_ = -1;
  Finish finish_;
  std::optional<Failure> failure_;
};

}  // namespace cllm
