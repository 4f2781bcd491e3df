#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/ggml_pointers.h"
#include "base/weight_filter.h"

namespace cllm {

struct AdapterSource {
  std::string path;
  float scale = 1;
};

/// LoRA adapters for one model, as llama.cpp's convert_lora_to_gguf.py writes them. For a matrix W [in, out] of the
/// model an adapter has A [in, rank] and B [rank, out], in ggml's order of dimensions; the adapted matrix is W + scale
/// * alpha / rank * B A (LoRA, arXiv 2106.09685). It is computed in F32, adapter by adapter, and rounded to the type of
/// W once. The result is the same whoever asks for it, in a file or in memory.
class Adapters : public WeightFilter {
 public:
  /// Reads the adapters, which are small, and checks them against the model in the file `base`.
  /// Throws Error CLLM_MODEL_NOT_FOUND, CLLM_INVALID_MODEL, CLLM_UNSUPPORTED_MODEL.
  Adapters(const std::vector<AdapterSource>& sources, const std::string& base, int threads);

  bool adapts(const std::string& name) const { return matrices_.contains(name); }
  /// The adapted matrix, in its type. `data` and the result have the matrix's size in bytes.
  std::vector<char> adapted(const std::string& name, const void* data) const;
  /// Keys of the adapters that describe what the adapted model is (`cllm.*`), the last one's last.
  const std::map<std::string, std::string>& notes() const { return notes_; }

  const void* filtered(const ggml_tensor* tensor, const void* data, std::vector<char>& changed) override;
  std::vector<std::string> unfiltered() const override;

 private:
  struct Pair {
    int64_t rank = 0;
    float factor = 0;         // scale * alpha / rank
    std::vector<float> a, b;  // [rank][in], [out][rank]
  };
  struct Matrix {
    ggml_type type;
    int64_t in = 0, out = 0;
    std::vector<Pair> pairs;
    bool is_filtered = false;
  };
  void read(const AdapterSource& source, const gguf_context* base, const std::string& base_path);

  std::map<std::string, Matrix> matrices_;
  std::map<std::string, std::string> notes_;
  int threads_;
};

/// Writes the model `base` with adapters merged in. All else is as in the base, but for the adapters' notes.
/// `progress` gets 0..1 and returns false to stop. Throws Error CLLM_ABORTED, CLLM_QUANTIZE_FAILED (disk full), and as
/// Adapters does.
void merge_model(const std::string& base, const std::vector<AdapterSource>& sources, const std::string& output,
                 int threads, const std::function<bool(float)>& progress);

}  // namespace cllm
