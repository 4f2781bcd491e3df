#pragma once

#include <functional>
#include <string>

namespace cllm {

struct QuantizeOptions {
  std::string input;
  std::string output;
  std::string type;  // F32, F16, BF16, Q8_0, Q4_0, Q4_K_M, ...
  int threads = 1;
  bool allow_requantize = false;
};

/// Runs llama.cpp's quantiser (llama_model_quantize) and blocks meanwhile. `progress` gets 0..1 and returns false to
/// stop. Throws Error CLLM_QUANTIZE_FAILED, CLLM_ABORTED, or what check_model_file() found.
void quantize_model(const QuantizeOptions& options, const std::function<bool(float)>& progress);

}  // namespace cllm
