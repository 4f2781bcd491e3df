#include "train/weights.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string_view>

#include "base/error.h"
#include "model/model_file.h"

namespace cllm {

namespace {

// The operands of products begin at multiples of this many elements.
constexpr int64_t kAlignment = 32;

constexpr std::string_view kLayerMatrices[] = {"attn_q.weight",      "attn_k.weight",   "attn_v.weight",
                                               "attn_output.weight", "ffn_gate.weight", "ffn_up.weight",
                                               "ffn_down.weight"};

GgufPointer open(const std::string& path) {
  if (const auto problem = check_model_file(path)) throw Error(problem->code, problem->message);
  GgufPointer file(gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}));
  if (!file) throw Error("CLLM_INVALID_MODEL", path + " is not a GGUF file that can be read");
  return file;
}

/// Whether the name is "blk.<layer>." and then exactly one of kLayerMatrices.
bool is_layer_matrix(std::string_view name) {
  if (!name.starts_with("blk.")) return false;
  name.remove_prefix(4);
  name.remove_prefix(std::min(name.find('.') + 1, name.size()));
  return std::find(std::begin(kLayerMatrices), std::end(kLayerMatrices), name) != std::end(kLayerMatrices);
}

std::vector<float> transposed(const std::vector<float>& values, int64_t in, int64_t out) {
  std::vector<float> result(values.size());
  for (int64_t o = 0; o < out; o++) {
    for (int64_t i = 0; i < in; i++) result[i * out + o] = values[o * in + i];
  }
  return result;
}

void set(ggml_tensor* tensor, const std::vector<float>& values) {
  if (tensor->type == GGML_TYPE_F32) {
    ggml_backend_tensor_set(tensor, values.data(), 0, ggml_nbytes(tensor));
    return;
  }
  std::vector<ggml_bf16_t> rounded(values.size());
  ggml_fp32_to_bf16_row(values.data(), rounded.data(), static_cast<int64_t>(values.size()));
  ggml_backend_tensor_set(tensor, rounded.data(), 0, ggml_nbytes(tensor));
}

std::vector<float> read(const ggml_tensor* tensor) {
  std::vector<float> values(ggml_nelements(tensor));
  ggml_backend_tensor_get(tensor, values.data(), 0, ggml_nbytes(tensor));
  return values;
}

}  // namespace

bool is_cpu(ggml_backend_t backend) {
  return ggml_backend_dev_type(ggml_backend_get_device(backend)) == GGML_BACKEND_DEVICE_TYPE_CPU;
}

Weights::Weights(const std::string& path, const WeightOptions& options)
    : path_(path), options_(options), base_(open(path)), architecture_(read_architecture(base_.get())) {
  lay_out();
}

void Weights::lay_out() {
  const int64_t count = gguf_get_n_tensors(base_.get());
  ctx_.reset(ggml_init(
      {.mem_size = ggml_tensor_overhead() * ((count * 3 + 1) * 6 + 10), .mem_buffer = nullptr, .no_alloc = true}));
  const bool adapters = options_.lora_rank > 0;
  const std::string head = architecture_.tied ? "token_embd.weight" : "output.weight";
  for (int64_t i = 0; i < count; i++) {
    const std::string name = gguf_get_tensor_name(base_.get(), i);
    const int64_t* ne = gguf_get_tensor_ne(base_.get(), i);
    if (name == "rope_freqs.weight") {
      rope_factors_ = ggml_new_tensor_1d(ctx_.get(), GGML_TYPE_F32, ne[0]);
      continue;
    }
    const bool embedding = name == "token_embd.weight" || name == "output.weight";
    const bool vector = !embedding && !is_layer_matrix(name);
    const bool trained = !adapters && (!embedding || options_.train_embeddings);
    add(name, ne[0], ne[1], vector, trained, vector ? GGML_TYPE_F32 : options_.product,
        !vector && (!embedding || name == head));
    if (adapters && is_layer_matrix(name)) {
      // Adapters are in F32: their inner size, the rank, is too short for the BF16 kernels.
      add(name + ".lora_a", ne[0], options_.lora_rank, false, true, GGML_TYPE_F32, true);
      add(name + ".lora_b", options_.lora_rank, ne[1], false, true, GGML_TYPE_F32, true);
    }
  }
  for (const bool vectors : {false, true}) lay_out_group(vectors);
}

void Weights::add(const std::string& name, int64_t in, int64_t out, bool vector, bool trained, ggml_type type,
                  bool with_transposed) {
  Parameter p{.name = name, .in = in, .out = out, .vector = vector, .trained = trained};
  if (!trained) {
    p.value = vector ? ggml_new_tensor_1d(ctx_.get(), type, in) : ggml_new_tensor_2d(ctx_.get(), type, in, out);
  }
  if (with_transposed) p.transposed = ggml_new_tensor_2d(ctx_.get(), type, out, in);
  parameters_.push_back(p);
  by_name_[name] = &parameters_.back();
}

void Weights::lay_out_group(bool vectors) {
  const auto in_group = [&](const Parameter& p) { return p.trained && p.vector == vectors; };
  const auto padded_size = [](const Parameter& p) { return (p.in * p.out + kAlignment - 1) / kAlignment * kAlignment; };
  int64_t count = 0;
  for (const auto& p : parameters_) count += in_group(p) ? padded_size(p) : 0;
  if (count == 0) return;
  TrainedGroup& group = groups_[vectors];
  const auto tensor = [&](ggml_type type) {
    return ggml_new_tensor_2d(ctx_.get(), type, kGroupColumns, (count + kGroupColumns - 1) / kGroupColumns);
  };
  group.master = tensor(GGML_TYPE_F32);
  ggml_set_param(group.master);  // ggml_opt_step_adamw asserts it
  group.gradient = tensor(GGML_TYPE_F32);
  group.first_moment = tensor(GGML_TYPE_F32);
  group.second_moment = tensor(GGML_TYPE_F32);
  // Adapters need no values in BF16, because they are in F32.
  if (!vectors && options_.product != GGML_TYPE_F32 && options_.lora_rank == 0) group.value = tensor(options_.product);
  int64_t at = 0;
  for (auto& p : parameters_) {
    if (!in_group(p)) continue;
    const auto view = [&](ggml_tensor* whole) {
      const size_t element = ggml_element_size(whole), offset = at * element;
      return vectors ? ggml_view_1d(ctx_.get(), whole, p.in, offset)
                     : ggml_view_2d(ctx_.get(), whole, p.in, p.out, p.in * element, offset);
    };
    p.master = view(group.master);
    p.gradient = view(group.gradient);
    p.first_moment = view(group.first_moment);
    p.second_moment = view(group.second_moment);
    p.value = group.value != nullptr ? view(group.value) : p.master;
    at += padded_size(p);
  }
}

size_t Weights::bytes() const {
  size_t sum = 0;
  for (ggml_tensor* t = ggml_get_first_tensor(ctx_.get()); t != nullptr; t = ggml_get_next_tensor(ctx_.get(), t)) {
    if (t->view_src == nullptr) sum += ggml_nbytes(t);
  }
  return sum;
}

void Weights::set_buffer(ggml_backend_buffer* buffer) {
  for (ggml_tensor* t = ggml_get_first_tensor(ctx_.get()); t != nullptr; t = ggml_get_next_tensor(ctx_.get(), t)) {
    t->buffer = buffer;
  }
}

void Weights::load(ggml_backend_t backend, uint64_t seed) {
  buffer_.reset(ggml_backend_alloc_ctx_tensors(ctx_.get(), backend));
  if (!buffer_) throw Error("CLLM_OUT_OF_MEMORY", "Not enough memory for the weights and their optimiser state");
  ggml_backend_buffer_clear(buffer_.get(), 0);
  if (rope_factors_ != nullptr) set(rope_factors_, read_base("rope_freqs.weight"));
  std::mt19937_64 random(seed);
  for (auto& p : parameters_) {
    std::vector<float> values;
    if (p.name.ends_with(".lora_a")) {
      std::normal_distribution<float> draw(0, 1 / std::sqrt(static_cast<float>(p.in)));
      values.resize(p.in * p.out);
      for (auto& value : values) value = draw(random);
    } else if (p.name.ends_with(".lora_b")) {
      values.resize(p.in * p.out);  // zeros, so that the adapted model begins as the base
    } else {
      values = read_base(p.name);
    }
    set(p.value, values);
    if (p.master != nullptr && p.master != p.value) set(p.master, values);
    if (p.transposed != nullptr) set(p.transposed, transposed(values, p.in, p.out));
  }
}

Parameter* Weights::find(const std::string& name) {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

int64_t Weights::trained_count() const {
  int64_t count = 0;
  for (const auto& p : parameters_) count += p.trained ? p.in * p.out : 0;
  return count;
}

std::vector<float> Weights::read_base(const std::string& name) const {
  const int64_t id = gguf_find_tensor(base_.get(), name.c_str());
  const ggml_type type = gguf_get_tensor_type(base_.get(), id);
  const int64_t* ne = gguf_get_tensor_ne(base_.get(), id);
  const int64_t count = ne[0] * ne[1];
  std::vector<char> bytes;
  const FilePointer file(std::fopen(path_.c_str(), "rb"));
  if (!file || !read_tensor(base_.get(), file.get(), id, bytes)) {
    throw Error("CLLM_INVALID_MODEL", "Could not read the tensor " + name + " of " + path_);
  }
  std::vector<float> values(count);
  if (!to_floats(type, bytes.data(), values.data(), count)) {
    throw Error("CLLM_UNSUPPORTED_MODEL",
                "Weights of type " + std::string(ggml_type_name(type)) + " cannot be trained");
  }
  return values;
}

void Weights::merge_adapter(const Parameter& matrix, std::vector<float>& values) const {
  const auto found = by_name_.find(matrix.name + ".lora_a");
  if (found == by_name_.end()) return;
  const Parameter& pa = *found->second;
  const Parameter& pb = *by_name_.at(matrix.name + ".lora_b");
  const auto a = read(pa.master);  // [in, rank]
  const auto b = read(pb.master);  // [rank, out]
  for (int64_t o = 0; o < matrix.out; o++) {
    for (int64_t r = 0; r < pa.out; r++) {
      const float factor = kAdapterScale * b[o * pa.out + r];
      for (int64_t i = 0; i < matrix.in; i++) values[o * matrix.in + i] += factor * a[r * matrix.in + i];
    }
  }
}

void Weights::write(const std::string& path, ggml_type type, const std::function<void(gguf_context*)>& annotate) const {
  GgufWriter writer;
  gguf_set_kv(writer.metadata(), base_.get());
  // llama_ftype: ALL_F32 = 0, MOSTLY_BF16 = 32.
  gguf_set_val_u32(writer.metadata(), "general.file_type", type == GGML_TYPE_F32 ? 0 : 32);
  gguf_remove_key(writer.metadata(), "general.quantization_version");
  annotate(writer.metadata());
  for (int64_t i = 0; i < gguf_get_n_tensors(base_.get()); i++) {
    const std::string name = gguf_get_tensor_name(base_.get(), i);
    const int64_t* ne = gguf_get_tensor_ne(base_.get(), i);
    const auto found = by_name_.find(name);
    const Parameter* p = found == by_name_.end() ? nullptr : found->second;
    const bool vector = p == nullptr || p->vector;
    const ggml_type file_type = vector ? GGML_TYPE_F32 : type;
    writer.add(name, file_type, std::span(ne, vector ? 1 : 2), [this, p, name, file_type](void* target) {
      std::vector<float> values = p != nullptr && p->trained ? read(p->master) : read_base(name);
      if (p != nullptr) merge_adapter(*p, values);
      if (file_type == GGML_TYPE_F32) {
        std::copy(values.begin(), values.end(), static_cast<float*>(target));
      } else {
        ggml_fp32_to_bf16_row(values.data(), static_cast<ggml_bf16_t*>(target), static_cast<int64_t>(values.size()));
      }
    });
  }
  writer.write(path, "CLLM_TRAINING_FAILED");
}

void Weights::write_adapters(const std::string& path, const std::function<void(gguf_context*)>& annotate) const {
  GgufWriter writer;
  gguf_context* metadata = writer.metadata();
  gguf_set_val_str(metadata, "general.architecture", architecture_.name.c_str());
  gguf_set_val_str(metadata, "general.type", "adapter");
  gguf_set_val_str(metadata, "adapter.type", "lora");
  gguf_set_val_f32(metadata, "adapter.lora.alpha", kAdapterScale * static_cast<float>(options_.lora_rank));
  annotate(metadata);
  for (const auto& p : parameters_) {
    if (!p.name.ends_with(".lora_a") && !p.name.ends_with(".lora_b")) continue;
    const int64_t shape[] = {p.in, p.out};
    writer.add(p.name, GGML_TYPE_F32, shape, [&p](void* target) {
      const std::vector<float> values = read(p.master);
      std::copy(values.begin(), values.end(), static_cast<float*>(target));
    });
  }
  writer.write(path, "CLLM_TRAINING_FAILED");
}

}  // namespace cllm
