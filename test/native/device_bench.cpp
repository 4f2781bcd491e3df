// Prints the times of the kernels on this build's own device as one JSON object: microseconds per iteration of choose
// alone, of choose and advance together, enqueued without waiting as in a burst, and of both in a recorded loop. The
// floor beside them is the time to read the logits once at the bandwidth that a copy within the device reaches.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <stdexcept>

#include "device_test.h"
#include "device_world.h"
#ifdef CLLM_CUDA
#include <cuda_runtime_api.h>
#endif

namespace cllm {

namespace {

constexpr int kIterations = 200;
constexpr int kRounds = 5;

/// `burst` enqueues kIterations iterations.
template <typename Burst>
double microseconds_of(KernelDevice& device, Burst burst) {
  double best = 1e30;
  for (int round = 0; round <= kRounds; round++) {  // the first round warms up
    device.wait();
    const auto started = std::chrono::steady_clock::now();
    burst();
    device.wait();
    const double took = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - started).count();
    if (round > 0) best = std::min(best, took / kIterations);
  }
  return best;
}

void bench(int32_t lanes, int64_t vocab, double bytes_per_second, bool& first) {
  const auto device = make_device();
  WorldOptions options;
  options.shape = {lanes, 1, 16};
  options.vocab = vocab;
  options.n_kv = options.kv_size = 65536;  // room for every token of every round
  options.max_budget = 1;
  options.end_share = 0;
  options.iterations = kIterations;
  World world(*device, options);
  // No lane ends before the last iteration: each has rows and budget for all of them.
  for (LaneState& lane : world.lanes.host) {
    lane.row_end = world.scratch.first;
    lane.budget = 1 << 30;
  }
  world.lanes.upload();
  const int64_t rows = options.shape.rows();
  std::vector<float> values(static_cast<size_t>(rows * vocab));
  std::mt19937 random(1);
  for (auto& value : values) value = static_cast<float>(random() >> 8);
  DeviceArray<float> logits(*device, std::move(values));
  ChooseArgs args;
  args.logits = logits.data;
  args.rows = rows;
  args.vocab = vocab;
  args.stride = vocab;
  args.choices = world.choices.data;
  const auto iterate = [&] {
    device->choose(args);
    world.iterate();
  };
  const double choose = microseconds_of(*device, [&] {
    for (int i = 0; i < kIterations; i++) device->choose(args);
  });
  uint32_t done = 0;
  const double all = microseconds_of(*device, [&] {
    for (int i = 0; i < kIterations; i++) iterate();
    done += kIterations;
  });
  std::string reason;
  const auto recording = device->record(iterate, reason);
  double loop = 0;
  if (recording != nullptr && recording->kind() == Recorded::kLoop) {
    loop = microseconds_of(*device, [&] {
      *world.loop.limit = done += kIterations;
      device->launch(*recording);
    });
    if (world.loop_state.download()[0].iteration != done) throw std::runtime_error("a loop ended too early");
  }
  const double bytes = static_cast<double>(rows * vocab) * sizeof(float);
  const double floor = bytes_per_second > 0 ? bytes / bytes_per_second * 1e6 : 0;
  std::printf(
      "%s\n  {\"rows\": %lld, \"vocab\": %lld, \"floor\": %.2f, \"choose\": %.2f, \"all\": %.2f, \"loop\": %.2f, "
      "\"goal\": %.2f}",
      first ? "" : ",", static_cast<long long>(rows), static_cast<long long>(vocab), floor, choose, all, loop,
      1.3 * floor + 8);
  first = false;
}

}  // namespace

double bandwidth() {
#ifdef CLLM_CUDA
  constexpr size_t kBytes = 1ull << 30;
  constexpr int kCopies = 10;
  void *from = nullptr, *to = nullptr;
  cudaEvent_t begin, end;
  const auto check = [](cudaError_t status) {
    if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
  };
  check(cudaMalloc(&from, kBytes));
  check(cudaMalloc(&to, kBytes));
  check(cudaMemset(from, 1, kBytes));
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  float best = 1e30f;
  for (int round = 0; round < kRounds; round++) {
    check(cudaEventRecord(begin));
    for (int i = 0; i < kCopies; i++) check(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice));
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin, end));
    best = std::min(best, milliseconds);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaFree(from);
  cudaFree(to);
  return 2.0 * kBytes * kCopies / (best / 1e3);
#else
  return 0;  // bench/kernel measures the CPU's floor
#endif
}

int run_device_bench() {
  const double bytes_per_second = bandwidth();
  std::printf("{\"device\": \"%s\", \"bandwidth\": %.4g, \"unit\": \"microseconds per iteration\", \"kernels\": [",
              make_device()->name(), bytes_per_second);
  bool first = true;
#ifdef CLLM_CUDA
  const std::initializer_list<int32_t> lane_counts = {1, 2, 4, 8, 16, 32};
#else
  const std::initializer_list<int32_t> lane_counts = {1};
#endif
  for (const int64_t vocab : {32000, 49152, 128256, 151936}) {
    for (const int32_t lanes : lane_counts) bench(lanes, vocab, bytes_per_second, first);
  }
  std::printf("\n]}\n");
  return 0;
}

}  // namespace cllm
