#include "model/model_file.h"

#include <vector>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "base/ggml_pointers.h"
#include "llama.h"
#include "model/model_file_checks.h"

namespace cllm {

namespace {

GgufPointer read_gguf(const std::string& path, std::string& reason) {
  clear_last_log_error();
  try {
    GgmlGuard guard;
    // Without a ggml context ggml creates neither tensors nor data.
    GgufPointer gguf(gguf_init_from_file(path.c_str(), {/*.no_alloc =*/true, /*.ctx =*/nullptr}));
    reason = take_last_log_error();
    return gguf;
  } catch (const std::exception& error) {
    reason = error.what();
    return nullptr;
  }
}

// Checks one file, as far as it can be judged without the other parts.
Problem check_part(const std::string& path, GgufPointer& gguf, std::set<uint32_t>& types) {
  std::vector<TensorEntry> tensors;
  if (const Problem problem = check_header(path, tensors)) return problem;
  std::string reason;
  gguf = read_gguf(path, reason);
  if (gguf == nullptr) {
    return invalid(path, "is damaged or incomplete: " + (reason.empty() ? "no reason given" : reason));
  }
  for (const TensorEntry& tensor : tensors) types.insert(tensor.type);
  return check_tensors(path, gguf.get(), tensors);
}

// Paths of the parts of a split model, by llama.cpp's naming rule. Any other file is its only part.
Problem split_parts(const std::string& path, const gguf_context* gguf, std::vector<std::string>& parts) {
  const int64_t count = integer_key(gguf, "split.count", 1);
  if (count <= 1) {
    parts = {path};
    return std::nullopt;
  }
  const int64_t index = integer_key(gguf, "split.no", 0);
  if (count > 9999 || index < 0 || index >= count) {
    return invalid(path, "has split.no and split.count that make no sense");
  }
  std::vector<char> prefix(path.size() + 1);
  if (llama_split_prefix(prefix.data(), prefix.size(), path.c_str(), static_cast<int>(index),
                         static_cast<int>(count)) == 0) {
    return invalid(path, "is part " + std::to_string(index + 1) + " of " + std::to_string(count) +
                             " of a split model but is not named like one (NAME-00001-of-00003.gguf)");
  }
  for (int i = 0; i < count; i++) {
    std::vector<char> part(path.size() + 64);
    llama_split_path(part.data(), part.size(), prefix.data(), i, static_cast<int>(count));
    parts.emplace_back(part.data());
  }
  return std::nullopt;
}

Problem check_other_part(const std::string& path, int64_t index, std::set<uint32_t>& types) {
  GgufPointer gguf;
  if (const Problem problem = check_part(path, gguf, types)) return problem;
  // llama.cpp reads split.no without looking at its type.
  const int64_t id = gguf_find_key(gguf.get(), "split.no");
  if (id < 0 || gguf_get_kv_type(gguf.get(), id) != GGUF_TYPE_UINT16 || gguf_get_val_u16(gguf.get(), id) != index) {
    return invalid(path, "does not say that it is part " + std::to_string(index + 1) + " of the split model");
  }
  return std::nullopt;
}

}  // namespace

Problem invalid(const std::string& path, const std::string& what) {
  return ModelFileError{"CLLM_INVALID_MODEL", "Expected a GGUF file but " + path + " " + what};
}

GgufPointer open_gguf(const std::string& path) {
  GgufPointer gguf;
  std::set<uint32_t> types;
  if (const Problem problem = check_part(path, gguf, types)) throw Error(problem->code, problem->message);
  return gguf;
}

std::optional<ModelFileError> check_model_file(const std::string& path, std::set<uint32_t>* types) {
  GgufPointer gguf;
  std::set<uint32_t> found;
  if (const Problem problem = check_part(path, gguf, found)) return problem;
  std::vector<std::string> parts;
  if (const Problem problem = split_parts(path, gguf.get(), parts)) return problem;
  // The metadata are in the first part, and llama.cpp too must be given that one.
  if (parts.front() != path) return invalid(path, "is not the first part of a split model: pass " + parts.front());
  for (size_t i = 1; i < parts.size(); i++) {
    if (const Problem problem = check_other_part(parts[i], static_cast<int64_t>(i), found)) return problem;
  }
  const int64_t id = gguf_find_key(gguf.get(), "general.architecture");
  if (id < 0 || gguf_get_kv_type(gguf.get(), id) != GGUF_TYPE_STRING) {
    return invalid(path, "does not say its general.architecture");
  }
  if (gguf_get_n_tensors(gguf.get()) == 0) return invalid(path, "has no tensors");
  if (const Problem problem = check_hparams(path, gguf.get(), gguf_get_val_str(gguf.get(), id))) return problem;
  if (types != nullptr) *types = std::move(found);
  return check_vocabulary(path, gguf.get());
}

}  // namespace cllm
