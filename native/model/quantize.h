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

/// llama.cpp's own quantiser (llama_model_quantize). Blocks; `progress` gets 0..1 and returns false to stop.
/// Throws Error CLLM_QUANTIZE_FAILED, CLLM_ABORTED, or the model file's own problem.
void quantize_model(const QuantizeOptions& options, const std::function<bool(float)>& progress);

}  // namespace cllm
