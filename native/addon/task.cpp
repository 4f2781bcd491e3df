#include "addon/task.h"

#include <new>

#include "addon/errors.h"
#include "base/error.h"

namespace cllm {

Napi::Object Task::start(Napi::Env env, const char* name, Work work, Napi::Function on_progress) {
  std::shared_ptr<Task> task(new Task(env, std::move(work)));
  if (!on_progress.IsEmpty()) task->on_progress_ = Napi::Persistent(on_progress);
  task->launch(env, name);
  Napi::Object result = Napi::Object::New(env);
  result.Set("promise", task->deferred_.Promise());
  std::weak_ptr<Task> weak = task;
  result.Set("cancel", Napi::Function::New(env, [weak](const Napi::CallbackInfo&) {
               if (const auto alive = weak.lock()) alive->cancelled_.store(true, std::memory_order_relaxed);
             }));
  return result;
}

Napi::Promise Task::start_promise(Napi::Env env, const char* name, Work work) {
  std::shared_ptr<Task> task(new Task(env, std::move(work)));
  task->launch(env, name);
  return task->deferred_.Promise();
}

void Task::launch(Napi::Env env, const char* name) {
  // The port's exit hook owns the task until it is settled: without that, the last reference at environment exit could
  // be the thread's own, and a thread that destroys itself terminates the process.
  auto self = shared_from_this();
  port_ = std::make_unique<JsPort>(env, name, [self] {
    self->cancelled_.store(true, std::memory_order_relaxed);
    if (self->thread_.joinable()) self->thread_.join();
    self->on_progress_.Reset();
  });
  port_->ref();  // a promise somebody waits for keeps the process alive
  thread_ = std::thread([self] {
    try {
      self->finish_ = self->work_(*self);
    } catch (const Error& error) {
      self->error_code_ = error.code();
      self->error_message_ = error.what();
    } catch (const std::bad_alloc&) {
      self->error_code_ = "CLLM_OUT_OF_MEMORY";
      self->error_message_ = "Not enough memory";
    } catch (const std::exception& error) {
      self->error_code_ = "CLLM_NOT_SUPPORTED";
      self->error_message_ = error.what();
    }
    self->port_->post([self](Napi::Env env) { self->settle(env); });
  });
}

void Task::progress(double fraction) {
  const int percent = static_cast<int>(fraction * 100);
  if (percent == last_percent_ || on_progress_.IsEmpty()) return;
  last_percent_ = percent;
  auto self = shared_from_this();
  port_->post([self, fraction](Napi::Env env) { self->on_progress_.Call({Napi::Number::New(env, fraction)}); });
}

void Task::settle(Napi::Env env) {
  thread_.join();
  port_->close();
  on_progress_.Reset();
  work_ = nullptr;
  if (!error_code_.empty()) return deferred_.Reject(make_error(env, error_code_, error_message_));
  try {
    deferred_.Resolve(finish_(env));
  } catch (const Napi::Error& error) {
    deferred_.Reject(error.Value());
  }
  finish_ = nullptr;
}

}  // namespace cllm
