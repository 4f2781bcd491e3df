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
// ms). It is long enough to bridge the gap between two iterations, and short enough to leave the core to the event
// loop after that.
constexpr uint32_t kPoll = 1;

}  // namespace

int startable_threads(int wanted, std::string& refusal) {
  std::mutex all_started;
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(wanted));
  try {
    const std::lock_guard hold(all_started);
    while (static_cast<int>(threads.size()) < wanted) {
      threads.emplace_back([&all_started] { const std::lock_guard wait(all_started); });
    }
  } catch (const std::system_error& error) {
    refusal = error.what();
  }
  for (std::thread& thread : threads) thread.join();
  return static_cast<int>(threads.size());
}

ThreadpoolPointer make_threadpool(int threads) {
  // ggml asserts that its threads start. Where one does not, nobody can end those that did, so their number is tried
  // first.
  std::string refusal;
  if (startable_threads(threads, refusal) < threads) {
    throw Error("CLLM_OUT_OF_MEMORY", "Expected the system to start " + std::to_string(threads) +
                                          " threads for a decoder but it refused: " + refusal);
  }
  ggml_threadpool_params params = ggml_threadpool_params_default(threads);
  params.poll = kPoll;
  try {
    const GgmlGuard guard;
    return ThreadpoolPointer(ggml_threadpool_new(&params));
  } catch (const GgmlAbort& abort) {
    // Other threads of the process have started meanwhile. The pool's threads that did start sleep until the process
    // ends.
    throw Error("CLLM_OUT_OF_MEMORY", std::string("The system refused a compute thread: ") + abort.what());
  }
}

}  // namespace cllm
