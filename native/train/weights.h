#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/ggml_pointers.h"
#include "model/gguf_file.h"
#include "train/architecture.h"

namespace cllm {

/// Whether the backend is the CPU's, where the custom operations (transpose.h, product.h) run.
bool is_cpu(ggml_backend_t backend);

/// One weight matrix [in, out] (y = W x; ggml's order, in is contiguous) or vector [in] of the model.
struct Parameter {
  std::string name;  // in the file; an adapter's is "<matrix>.lora_a" or "<matrix>.lora_b"
  int64_t in = 0, out = 1;
  bool vector = false;
  bool trained = false;
  ggml_tensor* value = nullptr;       // operand of products, in BF16 or F32
  ggml_tensor* transposed = nullptr;  // [out, in]; only matrices that a gradient flows through have it
  // Only trained parameters have these: views of a TrainedGroup, in F32 and of the parameter's shape. `master` is
  // `value` itself where products are in F32.
  ggml_tensor* master = nullptr;
  ggml_tensor* gradient = nullptr;
  ggml_tensor* first_moment = nullptr;  // AdamW
  ggml_tensor* second_moment = nullptr;
};

/// All trained matrices, or all trained vectors, one behind the other in tensors [kGroupColumns, ...], with zeros
/// between and behind them. So an optimiser step is one operation on all of them. The tensors are null where nothing is
/// trained.
struct TrainedGroup {
  ggml_tensor* value = nullptr;  // in BF16; null where the masters serve as values
  ggml_tensor* master = nullptr;
  ggml_tensor* gradient = nullptr;
  ggml_tensor* first_moment = nullptr;
  ggml_tensor* second_moment = nullptr;
};
inline constexpr int64_t kGroupColumns = 1024;

struct WeightOptions {
  ggml_type product = GGML_TYPE_F32;  // type of matrices in products: F32 or BF16
  bool train_embeddings = true;       // token_embd and output
  int lora_rank = 0;                  // 0 trains all matrices, otherwise adapters on the layers' matrices alone
};

/// The model's weights on a backend, each with the tensors that training needs. The base file is only read.
class Weights {
 public:
  /// Lays out the tensors without memory for them; load() allocates and reads.
  Weights(const std::string& path, const WeightOptions& options);

  /// Bytes that load() takes on the backend.
  size_t bytes() const;
  /// Sets the buffer of every tensor to a placeholder, or to null again, while memory for other tensors is planned.
  /// Only before load().
  void set_buffer(ggml_backend_buffer* buffer);
  /// Throws Error CLLM_OUT_OF_MEMORY, CLLM_INVALID_MODEL.
  void load(ggml_backend_t backend, uint64_t seed);

  const Architecture& architecture() const { return architecture_; }
  const WeightOptions& options() const { return options_; }
  /// nullptr where the model has no parameter of that name.
  Parameter* find(const std::string& name);
  Parameter& get(const std::string& name) { return *find(name); }
  std::deque<Parameter>& all() { return parameters_; }
  const std::deque<Parameter>& all() const { return parameters_; }
  /// The group of matrices, then the group of vectors.
  const std::array<TrainedGroup, 2>& groups() const { return groups_; }
  ggml_tensor* rope_factors() const { return rope_factors_; }
  int64_t trained_count() const;

  /// Writes the model with all metadata of the base. Its matrices have `type` (F32 or BF16), adapters are merged in,
  /// and `annotate` adds to the metadata.
  void write(const std::string& path, ggml_type type, const std::function<void(gguf_context*)>& annotate) const;
  /// Writes the adapters alone, in F32 and in the form that llama.cpp reads and model/adapter.h merges. lora_rank > 0.
  void write_adapters(const std::string& path, const std::function<void(gguf_context*)>& annotate) const;

 private:
  void lay_out();
  void add(const std::string& name, int64_t in, int64_t out, bool vector, bool trained, ggml_type type,
           bool transposed);
  void lay_out_group(bool vectors);
  std::vector<float> read_base(const std::string& name) const;
  void merge_adapter(const Parameter& matrix, std::vector<float>& values) const;

  std::string path_;
  WeightOptions options_;
  GgufPointer base_;
  Architecture architecture_;
  GgmlContextPointer ctx_;
  BufferPointer buffer_;
  std::deque<Parameter> parameters_;
  std::map<std::string, Parameter*> by_name_;
  std::array<TrainedGroup, 2> groups_;
  ggml_tensor* rope_factors_ = nullptr;
};

/// Factor of an adapter's product (alpha = 2 * rank).
inline constexpr float kAdapterScale = 2;

}  // namespace cllm
