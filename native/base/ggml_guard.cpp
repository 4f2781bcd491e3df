#include "base/ggml_guard.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "ggml.h"
#include "llama.h"

namespace cllm {

namespace {

thread_local int guard_depth = 0;
thread_local std::string last_error;
thread_local std::function<void(const char*)>* log_hook = nullptr;

ggml_log_level lowest_printed_level = GGML_LOG_LEVEL_NONE;
constexpr size_t kMaxErrorLength = 600;

void on_abort(const char* message) {
  if (guard_depth > 0) throw GgmlAbort(message);
  std::fprintf(stderr, "node-cllm: %s\n", message);
}

void on_log(ggml_log_level level, const char* text, void* /*data*/) {
  // A continuation belongs to the line before it and has its level.
  static thread_local ggml_log_level line_level = GGML_LOG_LEVEL_NONE;
  if (level != GGML_LOG_LEVEL_CONT) line_level = level;
  if (line_level == GGML_LOG_LEVEL_ERROR && last_error.size() < kMaxErrorLength) {
    std::string line(text);
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
    if (!line.empty()) last_error += (last_error.empty() ? "" : "; ") + line;
  }
  if (lowest_printed_level != GGML_LOG_LEVEL_NONE && line_level >= lowest_printed_level) std::fputs(text, stderr);
  // Destructors log too. A hook that throws while they run would end the process.
  if (log_hook != nullptr && std::uncaught_exceptions() == 0) (*log_hook)(text);
}

ggml_log_level level_of(const char* name) {
  if (name == nullptr) return GGML_LOG_LEVEL_NONE;
  if (std::strcmp(name, "debug") == 0) return GGML_LOG_LEVEL_DEBUG;
  if (std::strcmp(name, "info") == 0) return GGML_LOG_LEVEL_INFO;
  if (std::strcmp(name, "warn") == 0) return GGML_LOG_LEVEL_WARN;
  if (std::strcmp(name, "error") == 0) return GGML_LOG_LEVEL_ERROR;
  return GGML_LOG_LEVEL_NONE;
}

}  // namespace

GgmlGuard::GgmlGuard() { guard_depth++; }
GgmlGuard::~GgmlGuard() { guard_depth--; }

void install_ggml_guard() {
  lowest_printed_level = level_of(std::getenv("CLLM_LOG"));
  ggml_set_abort_callback(on_abort);
  llama_log_set(on_log, nullptr);
}

void clear_last_log_error() { last_error.clear(); }

void set_last_log_error(const std::string& text) { last_error = text; }

std::string take_last_log_error() {
  std::string text;
  text.swap(last_error);
  return text;
}

LogHook::LogHook(std::function<void(const char*)> hook) : hook_(std::move(hook)) { log_hook = &hook_; }
LogHook::~LogHook() { log_hook = nullptr; }

}  // namespace cllm
