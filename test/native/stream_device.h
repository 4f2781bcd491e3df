#pragma once

// A stand-in for a GPU, for tests of the device loop on a real model without one: the CPU's kernels and ggml's CPU
// backend run on a thread of their own, which takes what is enqueued in order, while the caller goes on. It records
// iterations and loops as a GPU does.

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/device.h"

namespace cllm {

class StreamDevice : public KernelDevice {
 public:
  explicit StreamDevice(Recorded recorded);
  ~StreamDevice() override;
  const char* name() const override { return "stand-in for a GPU"; }
  bool on_host() const override { return false; }
  void* allocate(size_t bytes) override;
  void* allocate_shared(size_t bytes) override { return allocate(bytes); }
  void write(void* to, const void* from, size_t bytes) override;
  void read(void* to, const void* from, size_t bytes) override;
  void forward(const std::function<void()>& compute) override {
    if (captured_ != nullptr && in_recorded_pass) in_recorded_pass();
    enqueue(compute);
  }
  void bias(const BiasArgs& args) override;
  void choose(const ChooseArgs& args) override;
  void verify(const VerifyArgs& args) override;
  void advance(const AdvanceArgs& args) override;
  void roll_forward(const RollForwardArgs& args) override;
  void keep_state(const KeepStateArgs& args) override;
  std::unique_ptr<Recording> record(const std::function<void()>& iteration, std::string& reason) override;
  void launch(const Recording& recording) override;
  void wait() override;
  bool idle() override;

  /// Called for a forward pass while an iteration is recorded. What it throws makes record() refuse.
  std::function<void()> in_recorded_pass;
  /// Makes launch() fail with this message, if it is not empty.
  std::string launch_failure;

 private:
  using Work = std::function<void()>;
  void enqueue(Work work);
  void run();

  Recorded recorded_;
  std::vector<std::unique_ptr<uint64_t[]>> memory_;
  std::vector<Work>* captured_ = nullptr;  // where work goes while an iteration is recorded
  LoopState* loop_state_ = nullptr;        // of the last advance
  std::mutex mutex_;                       // guards what follows
  std::condition_variable changed_;
  std::deque<Work> queue_;  // the first is running
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace cllm
