#pragma once

#include <functional>
#include <stdexcept>
#include <string>

namespace cllm {

/// What GGML_ASSERT and GGML_ABORT become while a GgmlGuard is active.
class GgmlAbort : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// While one lives on a thread, a failed GGML_ASSERT on that thread throws GgmlAbort instead of ending the process.
///
/// ggml calls its abort callback before abort(); a C++ exception leaves through ggml's frames because everything is
/// compiled with -fexceptions. What the unwound code had allocated is lost, so this is the second line of defence: the
/// first is not to hand ggml what it would refuse (model_file.h). Other threads (ggml's compute threads) still abort:
/// nothing could catch for them.
class GgmlGuard {
 public:
  GgmlGuard();
  ~GgmlGuard();
  GgmlGuard(const GgmlGuard&) = delete;
};

/// Once per process: takes over ggml's abort callback and llama.cpp's log. The log is silent unless the environment
/// variable CLLM_LOG is debug, info, warn or error; then it goes to stderr from that level on.
void install_ggml_guard();

/// llama.cpp says why it failed only in its log: the errors that the calling thread has logged since the last clear,
/// joined into one line. (Not per environment: a log callback has no way to tell which one called.)
void clear_last_log_error();
std::string take_last_log_error();

/// While one lives on a thread, `hook` sees every log line of that thread. It may throw to leave a llama.cpp function
/// that offers no other way to stop; llama.cpp catches std::exception at its API.
class LogHook {
 public:
  explicit LogHook(std::function<void(const char*)> hook);
  ~LogHook();
  LogHook(const LogHook&) = delete;

 private:
  std::function<void(const char*)> hook_;
};

}  // namespace cllm
