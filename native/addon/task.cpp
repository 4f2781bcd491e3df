#include "addon/task.h"

#include <system_error>

namespace cllm {

Napi::Object Task::start(Napi::Env env, const char* name, Work work, Napi::Function on_progress) {
  std::shared_ptr<Task> task(new Task(env, std::move(work)));
  if (!on_progress.IsEmpty()) task->on_progress_ = Napi::Persistent(on_progress);
  task->launch(env, name, WithoutThread::kReject);
  Napi::Object result = Napi::Object::New(env);
  result.Set("promise", task->deferred_.Promise());
  std::weak_ptr<Task> weak = task;
  result.Set("cancel", Napi::Function::New(env, [weak](const Napi::CallbackInfo&) {
               if (const auto alive = weak.lock()) alive->cancelled_.store(true, std::memory_order_relaxed);
             }));
  return result;
}

Napi::Promise Task::start_promise(Napi::Env env, const char* name, Work work, WithoutThread without_thread) {
  std::shared_ptr<Task> task(new Task(env, std::move(work)));
  task->launch(env, name, without_thread);
  return task->deferred_.Promise();
}

void Task::launch(Napi::Env env, const char* name, WithoutThread without_thread) {
  // The port's exit hook owns the task until it is settled: without that, the last reference at environment exit could
  // be the thread's own, and a thread that destroys itself terminates the process.
  auto self = shared_from_this();
  port_ = std::make_unique<JsPort>(env, name, [self] {
    self->cancelled_.store(true, std::memory_order_relaxed);
    if (self->thread_.joinable()) self->thread_.join();
    self->on_progress_.Reset();
  });
  port_->ref();  // a promise somebody waits for keeps the process alive
  try {
    thread_ = std::thread([self] { self->run(); });
  } catch (const std::system_error&) {
    if (without_thread == WithoutThread::kRunOnCallingThread) return run();
    failure_ = current_failure();
    post_settle();  // or the port would keep the process alive for ever
  }
}

void Task::run() {
  try {
    finish_ = work_(*this);
  } catch (...) {
    failure_ = current_failure();
  }
  post_settle();
}

void Task::post_settle() {
  port_->post([self = shared_from_this()](Napi::Env env) { self->settle(env); });
}

void Task::progress(double fraction) {
  const int percent = static_cast<int>(fraction * 100);
  if (percent == last_percent_ || on_progress_.IsEmpty()) return;
  last_percent_ = percent;
  auto self = shared_from_this();
  port_->post([self, fraction](Napi::Env env) { self->on_progress_.Call({Napi::Number::New(env, fraction)}); });
}

void Task::settle(Napi::Env env) {
  if (thread_.joinable()) thread_.join();
  port_->close();
  on_progress_.Reset();
  work_ = nullptr;
  if (failure_) return deferred_.Reject(make_error(env, failure_->code, failure_->message));
  try {
    deferred_.Resolve(guarded(env, [&] { return finish_(env); }));
  } catch (const Napi::Error& error) {
    deferred_.Reject(error.Value());
  }
  finish_ = nullptr;
}

}  // namespace cllm
