#pragma once

#include <functional>
#include <stdexcept>
#include <string>

namespace cllm {

/// The exception that GGML_ASSERT and GGML_ABORT throw while a GgmlGuard is active.
class GgmlAbort : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// While a guard lives on a thread, a failed GGML_ASSERT on that thread throws GgmlAbort instead of ending the process.
///
/// ggml calls its abort callback before abort(); a C++ exception leaves through ggml's frames because everything is
/// compiled with -fexceptions. What the unwound code had allocated is lost, so this is the second line of defence. The
/// first are the checks that keep from ggml what it would refuse (model_file.h). On other threads (ggml's compute
/// threads) an assertion still ends the process, because nothing there could catch the exception.
class GgmlGuard {
 public:
  GgmlGuard();
  ~GgmlGuard();
  GgmlGuard(const GgmlGuard&) = delete;
};

/// Takes over ggml's abort callback and llama.cpp's log, once per process. The log is silent unless the environment
/// variable CLLM_LOG is debug, info, warn or error; then messages from that level on go to stderr.
void install_ggml_guard();

/// llama.cpp says only in its log why it failed. take_last_log_error() returns the errors that the calling thread has
/// logged since the last clear, joined into one line. (They are kept per thread and not per environment, because a log
/// callback cannot tell which environment called.) set_last_log_error() puts what was thrown in their place.
void clear_last_log_error();
void set_last_log_error(const std::string& text);
std::string take_last_log_error();

/// While a LogHook lives on a thread, `hook` gets every log line of that thread. It may throw to leave a llama.cpp
/// function that offers no other way to stop; llama.cpp catches std::exception at its API.
class LogHook {
 public:
  explicit LogHook(std::function<void(const char*)> hook);
  ~LogHook();
  LogHook(const LogHook&) = delete;

 private:
  std::function<void(const char*)> hook_;
};

}  // namespace cllm
