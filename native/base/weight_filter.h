#pragma once

#include <string>
#include <vector>

struct ggml_tensor;

namespace cllm {

/// Changes weights of a model that is being loaded.
class WeightFilter {
 public:
  virtual ~WeightFilter() = default;
  /// Returns the bytes that `tensor` shall have: `data` as they come from the file, or `changed`, which it fills.
  virtual const void* filtered(const ggml_tensor* tensor, const void* data, std::vector<char>& changed) = 0;
  /// Names of the weights to be changed that filtered() has not seen.
  virtual std::vector<std::string> unfiltered() const = 0;
};

/// The filter of the model that this thread loads, or null. Buffers that pack weights ask it, because they give them to
/// nobody afterwards.
inline thread_local WeightFilter* weight_filter = nullptr;

}  // namespace cllm
