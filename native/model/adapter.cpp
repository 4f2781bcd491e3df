#include "model/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "base/threadpool.h"
#include "model/gguf_file.h"
#include "model/model_file.h"

namespace cllm {

namespace {

// An adapter is far smaller than its model; a larger rank is a mistake, or an attack on the memory.
constexpr int64_t kMaxRank = 4096;

Error refused(const std::string& path, const std::string& what) {
  return Error("CLLM_INVALID_MODEL", "Expected a LoRA adapter but " + path + " " + what);
}

std::string text_of(const gguf_context* file, const char* key) {
  const int64_t id = gguf_find_key(file, key);
  return id < 0 || gguf_get_kv_type(file, id) != GGUF_TYPE_STRING ? "" : gguf_get_val_str(file, id);
}

/// A tensor of the file in F32.
std::vector<float> read_floats(const std::string& path, const gguf_context* file, std::FILE* data, int64_t tensor) {
  std::vector<char> bytes;
  if (!read_tensor(file, data, tensor, bytes)) throw refused(path, "cannot be read");
  const ggml_type type = gguf_get_tensor_type(file, tensor);
  const int64_t count = static_cast<int64_t>(bytes.size() / ggml_type_size(type)) * ggml_blck_size(type);
  std::vector<float> values(static_cast<size_t>(count));
  if (!to_floats(type, bytes.data(), values.data(), count)) {
    throw refused(path, std::string("has weights of type ") + ggml_type_name(type));
  }
  if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
    throw refused(path, "has weights that are no numbers");
  }
  return values;
}

/// Whether ggml can round to this type without a calibration.
bool can_round_to(ggml_type type) {
  return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 ||
         (ggml_is_quantized(type) && ggml_get_type_traits(type)->from_float_ref != nullptr &&
          !ggml_quantize_requires_imatrix(type));
}

/// Calls work(begin, end) for shares of the rows on several threads.
void share_rows(int64_t rows, int threads, const std::function<void(int64_t, int64_t)>& work) {
  std::vector<std::thread> others;
  for (int t = 1; t < threads; t++) others.emplace_back(work, rows * t / threads, rows * (t + 1) / threads);
  work(0, rows / threads);
  for (std::thread& other : others) other.join();
}

}  // namespace

Adapters::Adapters(const std::vector<AdapterSource>& sources, const std::string& base, int threads) {
  std::string refusal;
  threads_ = threads > 1 ? std::max(1, startable_threads(threads, refusal)) : 1;
  const GgufPointer file = open_gguf(base);
  if (gguf_find_key(file.get(), "split.count") >= 0) {
    throw Error("CLLM_NOT_SUPPORTED", base + " is a split model, which takes no adapters: merge its parts first");
  }
  for (const AdapterSource& source : sources) read(source, file.get(), base);
}

void Adapters::read(const AdapterSource& source, const gguf_context* base, const std::string& base_path) {
  const std::string& path = source.path;
  const GgufPointer file = open_gguf(path);
  if (text_of(file.get(), "general.type") != "adapter" || text_of(file.get(), "adapter.type") != "lora") {
    throw refused(path, "is none (general.type and adapter.type)");
  }
  if (gguf_find_key(file.get(), "adapter.alora.invocation_tokens") >= 0) {
    throw Error("CLLM_UNSUPPORTED_MODEL", path + " is to be switched on by certain tokens, so it cannot be merged");
  }
  const std::string architecture = text_of(file.get(), "general.architecture");
  const std::string of_base = text_of(base, "general.architecture");
  if (architecture != of_base) {
    throw refused(path, "is for the architecture " + architecture + ", and " + base_path + " is " + of_base);
  }
  const int64_t alpha_id = gguf_find_key(file.get(), "adapter.lora.alpha");
  if (alpha_id < 0 || gguf_get_kv_type(file.get(), alpha_id) != GGUF_TYPE_FLOAT32) {
    throw refused(path, "does not say its adapter.lora.alpha");
  }
  const float alpha = gguf_get_val_f32(file.get(), alpha_id);
  if (!std::isfinite(alpha)) throw refused(path, "has an adapter.lora.alpha that is no number");

  const FilePointer data(std::fopen(path.c_str(), "rb"));
  if (!data) throw refused(path, "cannot be read");
  std::set<std::string> names;
  for (int64_t i = 0; i < gguf_get_n_tensors(file.get()); i++) {
    const std::string name = gguf_get_tensor_name(file.get(), i);
    if (!name.ends_with(".lora_a") && !name.ends_with(".lora_b")) throw refused(path, "has the tensor " + name);
    names.insert(name.substr(0, name.size() - 7));
  }
  if (names.empty()) throw refused(path, "has no tensors");
  for (const std::string& name : names) {
    const int64_t weight = gguf_find_tensor(base, name.c_str());
    if (weight < 0) throw refused(path, "adapts " + name + ", which " + base_path + " has not");
    // llama.cpp takes the adapter of the embeddings the other way round.
    if (name == "token_embd.weight") throw Error("CLLM_UNSUPPORTED_MODEL", path + " adapts the embeddings");
    const int64_t ids[] = {gguf_find_tensor(file.get(), (name + ".lora_a").c_str()),
                           gguf_find_tensor(file.get(), (name + ".lora_b").c_str())};
    if (ids[0] < 0 || ids[1] < 0) throw refused(path, "has half of an adapter for " + name);
    const int64_t* shape = gguf_get_tensor_ne(base, weight);
    const int64_t* a = gguf_get_tensor_ne(file.get(), ids[0]);
    const int64_t* b = gguf_get_tensor_ne(file.get(), ids[1]);
    const bool flat = shape[2] == 1 && shape[3] == 1 && a[2] == 1 && a[3] == 1 && b[2] == 1 && b[3] == 1;
    if (!flat || a[0] != shape[0] || b[1] != shape[1] || a[1] != b[0] || a[1] > kMaxRank) {
      throw refused(path, "has an adapter of another shape for " + name);
    }
    Matrix& matrix = matrices_[name];
    matrix.type = gguf_get_tensor_type(base, weight);
    matrix.in = shape[0];
    matrix.out = shape[1];
    if (!can_round_to(matrix.type)) {
      throw Error("CLLM_UNSUPPORTED_MODEL", base_path + " has weights of type " + ggml_type_name(matrix.type) +
                                                ", into which nothing can be merged");
    }
    matrix.pairs.push_back({.rank = a[1],
                            .factor = source.scale * alpha / static_cast<float>(a[1]),
                            .a = read_floats(path, file.get(), data.get(), ids[0]),
                            .b = read_floats(path, file.get(), data.get(), ids[1])});
  }
  for (int64_t i = 0; i < gguf_get_n_kv(file.get()); i++) {
    const std::string key = gguf_get_key(file.get(), i);
    if (key.starts_with("cllm.") && gguf_get_kv_type(file.get(), i) == GGUF_TYPE_STRING) {
      notes_[key] = gguf_get_val_str(file.get(), i);
    }
  }
}

std::vector<char> Adapters::adapted(const std::string& name, const void* data) const {
  const Matrix& matrix = matrices_.at(name);
  const size_t row_bytes = ggml_row_size(matrix.type, matrix.in);
  std::vector<char> result(row_bytes * static_cast<size_t>(matrix.out));
  const auto columns = static_cast<size_t>(matrix.in);
  share_rows(matrix.out, threads_, [&](int64_t begin, int64_t end) {
    std::vector<float> row(columns);
    for (int64_t o = begin; o < end; o++) {
      to_floats(matrix.type, static_cast<const char*>(data) + static_cast<size_t>(o) * row_bytes, row.data(),
                matrix.in);
      for (const Pair& pair : matrix.pairs) {
        for (int64_t r = 0; r < pair.rank; r++) {
          const float factor = pair.factor * pair.b[static_cast<size_t>(o * pair.rank + r)];
          const float* a = pair.a.data() + r * matrix.in;
          for (size_t i = 0; i < columns; i++) row[i] += factor * a[i];
        }
      }
      ggml_quantize_chunk(matrix.type, row.data(), result.data() + static_cast<size_t>(o) * row_bytes, 0, 1, matrix.in,
                          nullptr);
    }
  });
  return result;
}

const void* Adapters::filtered(const ggml_tensor* tensor, const void* data, std::vector<char>& changed) {
  const auto found = matrices_.find(tensor->name);
  if (found == matrices_.end()) return data;
  changed = adapted(found->first, data);
  found->second.is_filtered = true;
  return changed.data();
}

std::vector<std::string> Adapters::unfiltered() const {
  std::vector<std::string> names;
  for (const auto& [name, matrix] : matrices_) {
    if (!matrix.is_filtered) names.push_back(name);
  }
  return names;
}

void merge_model(const std::string& base, const std::vector<AdapterSource>& sources, const std::string& output,
                 int threads, const std::function<bool(float)>& progress) {
  if (const auto problem = check_model_file(base)) throw Error(problem->code, problem->message);
  const Adapters adapters(sources, base, threads);
  const GgufPointer file = open_gguf(base);
  const FilePointer data(std::fopen(base.c_str(), "rb"));
  if (!data) throw Error("CLLM_INVALID_MODEL", base + " cannot be read");
  GgufWriter writer;
  gguf_set_kv(writer.metadata(), file.get());
  for (const auto& [key, value] : adapters.notes()) gguf_set_val_str(writer.metadata(), key.c_str(), value.c_str());
  const int64_t count = gguf_get_n_tensors(file.get());
  for (int64_t i = 0; i < count; i++) {
    const int64_t* shape = gguf_get_tensor_ne(file.get(), i);
    int dimensions = GGML_MAX_DIMS;
    while (dimensions > 1 && shape[dimensions - 1] == 1) dimensions--;
    const std::string name = gguf_get_tensor_name(file.get(), i);
    const std::span<const int64_t> sizes(shape, static_cast<size_t>(dimensions));
    writer.add(name, gguf_get_tensor_type(file.get(), i), sizes, [&, i, name](void* target) {
      if (!progress(static_cast<float>(i) / static_cast<float>(count))) {
        throw Error("CLLM_ABORTED", "Merging into " + base + " was aborted");
      }
      std::vector<char> bytes;
      if (!read_tensor(file.get(), data.get(), i, bytes)) throw Error("CLLM_INVALID_MODEL", base + " cannot be read");
      if (adapters.adapts(name)) bytes = adapters.adapted(name, bytes.data());
      std::memcpy(target, bytes.data(), bytes.size());
    });
  }
  writer.write(output, "CLLM_QUANTIZE_FAILED");
  progress(1);
}

}  // namespace cllm
