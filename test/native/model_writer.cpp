#include "model_writer.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>

#include "base/ggml_guard.h"
#include "llama-ext.h"
#include "llama-model.h"
#include "model_memory_name.h"

namespace cllm {

namespace {

constexpr struct {
  const char* name;
  llama_ftype type;
} kTypes[] = {
    {"f32", LLAMA_FTYPE_ALL_F32},          {"f16", LLAMA_FTYPE_MOSTLY_F16},
    {"bf16", LLAMA_FTYPE_MOSTLY_BF16},     {"q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
    {"q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},     {"q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
    {"q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},     {"q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},
    {"q2_k", LLAMA_FTYPE_MOSTLY_Q2_K},     {"q3_k", LLAMA_FTYPE_MOSTLY_Q3_K_M},
    {"q4_k", LLAMA_FTYPE_MOSTLY_Q4_K_M},   {"q5_k", LLAMA_FTYPE_MOSTLY_Q5_K_M},
    {"q6_k", LLAMA_FTYPE_MOSTLY_Q6_K},     {"iq4_nl", LLAMA_FTYPE_MOSTLY_IQ4_NL},
    {"iq4_xs", LLAMA_FTYPE_MOSTLY_IQ4_XS}, {"q4_k_s", LLAMA_FTYPE_MOSTLY_Q4_K_S},
    {"q4_k_m", LLAMA_FTYPE_MOSTLY_Q4_K_M}, {"mxfp4", LLAMA_FTYPE_MOSTLY_MXFP4_MOE},
};

llama_ftype to_ftype(const std::string& name) {
  std::string names;
  for (const auto& entry : kTypes) {
    if (name == entry.name) return entry.type;
    names += std::string(names.empty() ? "" : ", ") + entry.name;
  }
  throw std::runtime_error("Expected one of " + names + " for --type but received " + name);
}

llama_model_params skeleton_params() {
  llama_model_params params = llama_model_default_params();
  params.no_alloc = true;
  params.n_gpu_layers = 0;
  params.use_extra_bufts = false;
  params.load_mode = LLAMA_LOAD_MODE_NONE;
  return params;
}

/// llama.cpp's reason for its last failure, without the names of its functions.
std::string last_reason() {
  std::string reason = take_last_log_error();
  reason = reason.substr(0, reason.find("; llama_model_load_from_file_impl"));
  for (const std::string_view before : {"error loading model: ", "error loading model hyperparameters: "}) {
    const size_t at = reason.find(before);
    if (at != reason.npos) reason.erase(0, at + before.size());
  }
  return reason.empty() ? "llama.cpp gives no reason" : reason;
}

/// A model without weights, which has every tensor that llama.cpp would accept.
LlamaModelPointer make_skeleton(gguf_context* metadata) {
  clear_last_log_error();
  const GgmlGuard guard;
  LlamaModelPointer model(llama_model_init_from_user(
      metadata, [](ggml_tensor*, void*) {}, nullptr, skeleton_params()));
  if (!model) throw std::runtime_error(last_reason());
  return model;
}

/// The name without the layer: attn_q.bias of blk.7.attn_q.bias.
std::string part_of(const std::string& name) {
  if (!name.starts_with("blk.")) return name;
  return name.substr(name.find('.', 4) + 1);
}

/// A tensor of the file to be written.
struct PlannedTensor {
  std::string name;
  std::vector<int64_t> shape;
  ggml_type type;
};

/// Tensors that only some uses of an architecture have: scales of NVFP4, factors of long contexts, heads of
/// classifiers and embedding models.
bool is_rare(const std::string& part) {
  constexpr const char* kRare[] = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"};
  if (part.ends_with(".scale") || part.ends_with(".input_scale")) return true;
  if (part.starts_with("cls.") || part.starts_with("dense_")) return true;
  return std::any_of(std::begin(kRare), std::end(kRare), [&](const char* rare) { return part == rare; });
}

/// The tensors of the file. llama.cpp's table of an architecture names every bias that a matrix might have, also where
/// no model has one; so the file gets the biases without which it does not load, and those that the recipe names.
std::vector<ggml_tensor*> choose_tensors(const ModelRecipe& recipe, const llama_model& skeleton,
                                         const std::set<std::string>& required) {
  std::vector<ggml_tensor*> chosen;
  std::set<std::string> names;
  for (const auto& [name, tensor] : skeleton.tensors_by_name) {
    const std::string part = part_of(name);
    const ModelRecipe::Wish wish = recipe.wish(part);
    const bool unusual = is_rare(part) || part.ends_with(".bias") || wish == ModelRecipe::Wish::kLacks;
    if (unusual && wish != ModelRecipe::Wish::kHas && !required.contains(part)) continue;
    if (names.insert(name).second) chosen.push_back(tensor);
  }
  return chosen;
}

ggml_tensor flat(ggml_tensor tensor) {
  tensor.ne[0] = ggml_nelements(&tensor);
  tensor.ne[1] = tensor.ne[2] = tensor.ne[3] = 1;
  return tensor;
}

std::vector<PlannedTensor> plan_tensors(const llama_model& skeleton, const std::vector<ggml_tensor*>& tensors,
                                        llama_ftype ftype) {
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.ftype = ftype;
  const std::unique_ptr<quantize_state_impl, Freed<llama_quant_free>> state(llama_quant_init(&skeleton, &params));
  std::vector<ggml_tensor*> quantised;
  std::vector<PlannedTensor> planned;
  for (ggml_tensor* tensor : tensors) {
    // Files have the norms of n-gram embeddings as vectors, which llama.cpp reshapes.
    if (part_of(tensor->name).starts_with("ple_norm")) *tensor = flat(*tensor);
    const int dimensions = ggml_n_dims(tensor);
    planned.push_back({tensor->name, {tensor->ne, tensor->ne + dimensions}, GGML_TYPE_F32});
    if (llama_quant_tensor_allows_quantization(state.get(), tensor)) quantised.push_back(tensor);
  }
  std::vector<ggml_type> types(quantised.size());
  llama_quant_compute_types(state.get(), ftype, quantised.data(), types.data(), types.size());
  for (size_t i = 0, next = 0; i < tensors.size(); i++) {
    if (next < quantised.size() && tensors[i] == quantised[next]) planned[i].type = types[next++];
  }
  return planned;
}

/// The file's header: keys and tensor entries.
GgufPointer header_of(const ModelRecipe& recipe, const std::vector<PlannedTensor>& tensors, llama_ftype ftype) {
  GgufPointer file = recipe.metadata();
  gguf_set_val_u32(file.get(), "general.file_type", static_cast<uint32_t>(ftype));
  gguf_set_val_u32(file.get(), "general.quantization_version", GGML_QNT_VERSION);
  const GgmlContextPointer scratch(
      ggml_init({ggml_tensor_overhead() * (tensors.size() + 1), nullptr, /*no_alloc=*/true}));
  for (const PlannedTensor& planned : tensors) {
    ggml_tensor* tensor =
        ggml_new_tensor(scratch.get(), planned.type, static_cast<int>(planned.shape.size()), planned.shape.data());
    ggml_set_name(tensor, planned.name.c_str());
    gguf_add_tensor(file.get(), tensor);
  }
  return file;
}

uint64_t data_size(const gguf_context* header) {
  const int64_t last = gguf_get_n_tensors(header) - 1;
  return gguf_get_tensor_offset(header, last) +
         GGML_PAD(gguf_get_tensor_size(header, last), gguf_get_alignment(header));
}

/// Loads a file of the header with a hole in the place of the weights. Returns llama.cpp's objection, or nothing.
std::string objection_to(const gguf_context* header, const std::string& path) {
  if (!gguf_write_to_file(header, path.c_str(), /*only_meta=*/true)) throw std::runtime_error("cannot write " + path);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) + data_size(header));
  clear_last_log_error();
  const GgmlGuard guard;
  const LlamaModelPointer model(llama_model_load_from_file(path.c_str(), skeleton_params()));
  return model ? "" : last_reason();
}

/// The tensor that llama.cpp misses, or an empty string.
std::string missing_tensor(const std::string& objection) {
  for (const std::string_view before : {"missing tensor '", "check_tensor_dims: tensor '"}) {
    const size_t at = objection.find(before);
    if (at == objection.npos) continue;
    const size_t begin = at + before.size();
    return objection.substr(begin, objection.find('\'', begin) - begin);
  }
  return "";
}

void write_weights(std::ofstream& out, const PlannedTensor& tensor, size_t alignment, const WeightOptions& options) {
  const int64_t row = tensor.shape.front();
  int64_t rows = 1;
  for (size_t i = 1; i < tensor.shape.size(); i++) rows *= tensor.shape[i];
  const int64_t step = std::max<int64_t>(1, (1 << 18) / row);
  std::vector<float> weights;
  std::vector<char> bytes;
  uint64_t written = 0;
  for (int64_t first = 0; first < rows; first += step) {
    const int64_t count = std::min(step, rows - first);
    weights.resize(static_cast<size_t>(count * row));
    draw_weights(tensor.name, row, static_cast<uint64_t>(first * row), weights.size(), options, weights.data());
    bytes.resize(ggml_row_size(tensor.type, row) * static_cast<size_t>(count));
    ggml_quantize_chunk(tensor.type, weights.data(), bytes.data(), 0, count, row, nullptr);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    written += bytes.size();
  }
  const std::vector<char> padding(GGML_PAD(written, alignment) - written);
  out.write(padding.data(), static_cast<std::streamsize>(padding.size()));
}

/// What is written into a file.
struct Plan {
  std::vector<PlannedTensor> tensors;
  GgufPointer header;
};

/// Finds out which tensors llama.cpp asks for, and leaves a file at `path` that it loads, with a hole in the place of
/// the weights.
Plan plan_file(const ModelRecipe& recipe, llama_ftype ftype, const std::string& path) {
  const LlamaModelPointer skeleton = make_skeleton(recipe.metadata().get());
  std::set<std::string> required;
  for (;;) {
    Plan plan;
    plan.tensors = plan_tensors(*skeleton, choose_tensors(recipe, *skeleton, required), ftype);
    plan.header = header_of(recipe, plan.tensors, ftype);
    const std::string objection = objection_to(plan.header.get(), path);
    if (objection.empty()) return plan;
    const std::string missing = part_of(missing_tensor(objection));
    if (missing.empty() || !required.insert(missing).second) throw std::runtime_error(objection);
  }
}

}  // namespace

std::string memory_class(const ModelRecipe& recipe, const std::string& scratch_path) {
  plan_file(recipe, LLAMA_FTYPE_ALL_F32, scratch_path);
  const LlamaModelPointer model(llama_model_load_from_file(scratch_path.c_str(), skeleton_params()));
  return memory_class_of(model.get());
}

void write_model(const ModelRecipe& recipe, const std::string& type, const WeightOptions& options,
                 const std::string& path) {
  const Plan plan = plan_file(recipe, to_ftype(type), path);
  std::filesystem::resize_file(path, gguf_get_meta_size(plan.header.get()));
  std::ofstream out(path, std::ios::binary | std::ios::app);
  for (const PlannedTensor& tensor : plan.tensors) {
    write_weights(out, tensor, gguf_get_alignment(plan.header.get()), options);
  }
  if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace cllm
