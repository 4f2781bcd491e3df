#include "stream_device.h"

#include <cstring>
#include <stdexcept>
#include <utility>

namespace cllm {

namespace {

struct StreamRecording : Recording {
  Recorded recorded;
  std::shared_ptr<std::vector<std::function<void()>>> work;
  const LoopState* loop_state = nullptr;

  Recorded kind() const override { return recorded; }
  size_t nodes() const override { return work->size(); }
};

}  // namespace

StreamDevice::StreamDevice(Recorded recorded) : recorded_(recorded), thread_([this] { run(); }) {}

StreamDevice::~StreamDevice() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void StreamDevice::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const Work work = queue_.front();
    lock.unlock();
    std::exception_ptr failure;
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    queue_.pop_front();
    if (failure) {
      failure_ = failure;
      queue_.clear();
    }
    changed_.notify_all();
  }
}

void StreamDevice::enqueue(Work work) {
  if (captured_ != nullptr) return captured_->push_back(std::move(work));
  const std::lock_guard lock(mutex_);
  if (failure_) return;  // as on a GPU, nothing runs behind an error that nobody has seen
  queue_.push_back(std::move(work));
  changed_.notify_all();
}

void* StreamDevice::allocate(size_t bytes) {
  if (captured_ != nullptr) throw std::runtime_error("memory is allocated while an iteration is recorded");
  memory_.push_back(std::make_unique<uint64_t[]>(bytes / sizeof(uint64_t) + 1));
  return memory_.back().get();
}

void StreamDevice::write(void* to, const void* from, size_t bytes) {
  const auto* begin = static_cast<const char*>(from);
  enqueue([to, copy = std::vector<char>(begin, begin + bytes)] { std::memcpy(to, copy.data(), copy.size()); });
}

void StreamDevice::read(void* to, const void* from, size_t bytes) {
  enqueue([=] { std::memcpy(to, from, bytes); });
  wait();
}

void StreamDevice::bias(const BiasArgs& args) {
  enqueue([args] { cllm::bias(args); });
}
void StreamDevice::choose(const ChooseArgs& args) {
  enqueue([args] { cllm::choose(args); });
}
void StreamDevice::verify(const VerifyArgs& args) {
  enqueue([args] { cllm::verify(args); });
}
void StreamDevice::advance(const AdvanceArgs& args) {
  loop_state_ = args.loop.state;
  enqueue([args] { cllm::advance(args); });
}
void StreamDevice::roll_forward(const RollForwardArgs& args) {
  enqueue([args] { cllm::roll_forward(args); });
}
void StreamDevice::keep_state(const KeepStateArgs& args) {
  enqueue([args] { cllm::keep_state(args); });
}

std::unique_ptr<Recording> StreamDevice::record(const std::function<void()>& iteration, std::string& reason) {
  if (recorded_ == Recorded::kNothing) return nullptr;
  auto recording = std::make_unique<StreamRecording>();
  recording->recorded = recorded_;
  recording->work = std::make_shared<std::vector<Work>>();
  captured_ = recording->work.get();
  try {
    iteration();
  } catch (const std::exception& failure) {
    captured_ = nullptr;
    reason = failure.what();
    return nullptr;
  }
  captured_ = nullptr;
  recording->loop_state = loop_state_;
  return recording;
}

void StreamDevice::launch(const Recording& recording) {
  if (!launch_failure.empty()) throw std::runtime_error(launch_failure);
  const auto& [recorded, work, loop_state] = static_cast<const StreamRecording&>(recording);
  enqueue([loops = recorded == Recorded::kLoop, work = work, loop_state = loop_state] {
    do {
      for (const Work& step : *work) step();
    } while (loops && loop_state->goes_on != 0);
  });
}

void StreamDevice::wait() {
  if (captured_ != nullptr) throw std::runtime_error("the host waits while an iteration is recorded");
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.empty(); });
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

bool StreamDevice::idle() {
  const std::lock_guard lock(mutex_);
  if (!queue_.empty()) return false;
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  return true;
}

}  // namespace cllm
