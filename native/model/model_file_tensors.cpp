#include <filesystem>
#include <string_view>

#include "ggml-cpu.h"
#include "ggml.h"
#include "gguf.h"
#include "model/model_file_checks.h"

namespace cllm {

namespace {

// ggml's CPU operators meet a type they lack only while computing, on threads where nothing can catch their abort; or
// they call a function pointer that is null. What the converters write is what the operators have:

// Added to or multiplied with activations, element by element, or read by operators that know F32 alone.
bool must_be_f32(const TensorEntry& tensor) {
  const std::string_view name = tensor.name;
  // The router of a shared expert is a matrix of one row: multiplied, not scaled.
  if (name.find("gate_inp") != name.npos) return name.ends_with(".bias");
  if (tensor.shape.empty() || tensor.elements == tensor.shape[0]) return true;
  if (name.ends_with(".bias") || name.ends_with(".scale")) return true;
  for (const char* part : {"norm.", "norm_", "ssm_conv1d", "shortconv.conv", "ssm_a", "ssm_d.", "token_types"}) {
    if (name.find(part) != name.npos) return true;
  }
  return false;
}

// Tables of token and expert ids, read by ggml_get_rows or ggml_set_rows.
bool is_table(std::string_view name) { return name == "d2t" || name.find("tid2eid") != name.npos; }

const char* wrong_type(const TensorEntry& tensor) {
  const auto type = static_cast<ggml_type>(tensor.type);
  if (is_table(tensor.name)) return type == GGML_TYPE_I32 || type == GGML_TYPE_I64 ? nullptr : "i32";
  if (must_be_f32(tensor)) return type == GGML_TYPE_F32 ? nullptr : "f32";
  if (type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16) return nullptr;
  if (!ggml_is_quantized(type)) return "a float or a quantised type";
  // Q8_1 and Q8_K exist for activations only: nothing multiplies them as weights.
  const bool weights = type != GGML_TYPE_Q8_1 && type != GGML_TYPE_Q8_K;
  return weights && ggml_get_type_traits_cpu(type)->vec_dot != nullptr ? nullptr : "a type for weights";
}

}  // namespace

Problem check_tensors(const std::string& path, const gguf_context* gguf, const std::vector<TensorEntry>& tensors) {
  // The format asks for multiples of 8; with less, weights would lie across their own alignment in the mapped file.
  const size_t alignment = gguf_get_alignment(gguf);
  if (alignment % 8 != 0) return invalid(path, "has general.alignment = " + std::to_string(alignment));

  std::error_code error;
  const uint64_t file_size = std::filesystem::file_size(path, error);
  const uint64_t data = gguf_get_data_offset(gguf);
  for (size_t i = 0; i < tensors.size(); i++) {
    const TensorEntry& tensor = tensors[i];
    const uint64_t offset = gguf_get_tensor_offset(gguf, static_cast<int64_t>(i));
    const uint64_t size = gguf_get_tensor_size(gguf, static_cast<int64_t>(i));
    if (data > file_size || size > file_size - data || offset > file_size - data - size) {
      return invalid(path, "ends before tensor " + tensor.name + ": the download is incomplete or the file is damaged");
    }
    if (const char* expected = wrong_type(tensor)) {
      return invalid(path, "has tensor " + tensor.name + " of type " +
                               ggml_type_name(static_cast<ggml_type>(tensor.type)) + ", expected " + expected);
    }
  }
  return std::nullopt;
}

}  // namespace cllm
