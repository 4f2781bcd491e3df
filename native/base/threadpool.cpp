#include "base/threadpool.h"

#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/ggml_guard.h"

namespace cllm {

namespace {

// How long idle compute threads poll for the next graph before they sleep, in ggml's unit of 131072 pauses (about 2
// ms). Long enough to bridge the gap between two iterations, short enough to leave the core to the event loop after
// that.
constexpr uint32_t kPoll = 1;

// Has `count` threads alive at once, and ends them.
void try_threads(int count) {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(count));
  std::string refusal;
  std::mutex gate;
  try {
    const std::lock_guard closed(gate);
    for (int i = 0; i < count; i++) threads.emplace_back([&gate] { const std::lock_guard passed(gate); });
  } catch (const std::system_error& error) {
    refusal = error.what();
  }
  for (std::thread& thread : threads) thread.join();
  if (refusal.empty()) return;
  throw Error("CLLM_OUT_OF_MEMORY", "Expected the system to start " + std::to_string(count) +
                                        " threads for a decoder but it refused: " + refusal);
}

}  // namespace

ThreadpoolPointer make_threadpool(int threads) {
  // ggml asserts that its threads start, and then nobody can end those that did. So it is tried first.
  try_threads(threads);
  ggml_threadpool_params params = ggml_threadpool_params_default(threads);
  params.poll = kPoll;
  try {
    const GgmlGuard guard;
    return ThreadpoolPointer(ggml_threadpool_new(&params));
  } catch (const GgmlAbort& abort) {
    // Another thread of the process was quicker. The threads that did start sleep until the process ends.
    throw Error("CLLM_OUT_OF_MEMORY", std::string("The system refused a compute thread: ") + abort.what());
  }
}

}  // namespace cllm
