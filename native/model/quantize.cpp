#include "model/quantize.h"

#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "base/threadpool.h"
#include "llama.h"
#include "model/model_file.h"

namespace cllm {

namespace {

constexpr struct {
  const char* name;
  llama_ftype type;
} kTypes[] = {
    {"F32", LLAMA_FTYPE_ALL_F32},          {"F16", LLAMA_FTYPE_MOSTLY_F16},       {"BF16", LLAMA_FTYPE_MOSTLY_BF16},
    {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},     {"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K},     {"Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},
    {"Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},     {"Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S}, {"Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M},
    {"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},     {"Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},     {"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S},
    {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M}, {"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL}, {"IQ4_XS", LLAMA_FTYPE_MOSTLY_IQ4_XS},
    {"Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S}, {"Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M}, {"Q3_K_L", LLAMA_FTYPE_MOSTLY_Q3_K_L},
    {"Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K},
};

llama_ftype to_ftype(const std::string& name) {
  std::string names;
  for (const auto& entry : kTypes) {
    if (name == entry.name) return entry.type;
    names += (names.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw Error("CLLM_QUANTIZE_FAILED", "Expected one of " + names + " for type but received " + name);
}

// Thrown to leave llama.cpp's quantiser, which catches std::exception and returns.
struct Cancelled : std::exception {};

}  // namespace

void quantize_model(const QuantizeOptions& options, const std::function<bool(float)>& progress) {
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.ftype = to_ftype(options.type);
  // Where the quantiser has started some of its threads and the next one cannot start, the destructors of the others
  // end the process. So it is given only as many as can start.
  std::string refusal;
  params.nthread = std::max(1, options.threads > 1 ? startable_threads(options.threads, refusal) : 1);
  params.allow_requantize = options.allow_requantize;
  if (const auto problem = check_model_file(options.input)) throw Error(problem->code, problem->message);

  // llama_model_quantize has no progress callback and no way to stop, but it logs "[  3/ 272] name ..." per tensor.
  bool cancelled = false;
  uint32_t status = 1;
  std::string aborted;
  clear_last_log_error();
  try {
    GgmlGuard guard;
    const LogHook hook([&](const char* line) {
      int done = 0, total = 0;
      if (std::sscanf(line, "[%d/%d]", &done, &total) == 2 || std::sscanf(line, "[ %d/ %d]", &done, &total) == 2) {
        if (total > 0 && !progress(static_cast<float>(done - 1) / static_cast<float>(total))) cancelled = true;
      }
      if (cancelled) throw Cancelled();
    });
    status = llama_model_quantize(options.input.c_str(), options.output.c_str(), &params);
  } catch (const std::exception& error) {
    aborted = error.what();
  }
  if (cancelled) throw Error("CLLM_ABORTED", "Quantising " + options.input + " was aborted");
  if (status == 0 && aborted.empty()) {
    progress(1);
    return;
  }
  const std::string reason = aborted.empty() ? take_last_log_error() : aborted;
  throw Error("CLLM_QUANTIZE_FAILED",
              "llama.cpp could not quantise " + options.input + ": " + (reason.empty() ? "no reason given" : reason));
}

}  // namespace cllm
