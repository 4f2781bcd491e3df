#include <cstring>

#include "base/error.h"
#include "train/trainer.h"

// A checkpoint is a GGUF file: the trained weights and AdamW's moments as F32 tensors, all other state as metadata.

namespace cllm {

namespace {

constexpr const char* kFingerprint = "cllm.checkpoint.fingerprint";
constexpr const char* kCounters = "cllm.checkpoint.counters";
constexpr const char* kPool = "cllm.checkpoint.pool";

struct Part {
  const char* suffix;
  ggml_tensor* Parameter::*tensor;
};
constexpr Part kParts[] = {
    {"", &Parameter::master}, {".m", &Parameter::first_moment}, {".v", &Parameter::second_moment}};

std::vector<int32_t> flatten(const std::vector<RowState>& pool) {
  std::vector<int32_t> flat;
  for (const auto& row : pool) {
    flat.insert(flat.end(),
                {row.age, static_cast<int32_t>(row.segments.size()), static_cast<int32_t>(row.blocks.size())});
    for (const auto& segment : row.segments) flat.insert(flat.end(), {segment.example, segment.prefix, segment.leads});
    for (const auto& block : row.blocks) {
      flat.insert(flat.end(), {block.segment, block.start});
      flat.insert(flat.end(), block.tokens.begin(), block.tokens.end());
    }
  }
  return flat;
}

[[noreturn]] void damaged(const std::string& path) {
  throw Error("CLLM_INVALID_DATA", "The checkpoint " + path + " is damaged");
}

// Restores the pool and checks every number: a checkpoint is a file, and no file is trusted.
std::vector<RowState> unflatten(const std::vector<int32_t>& flat, const std::vector<Example>& examples, int n,
                                int vocab, const std::string& path) {
  std::vector<RowState> pool;
  size_t at = 0;
  const auto take = [&](int64_t lowest, int64_t below) {
    if (at >= flat.size() || flat[at] < lowest || flat[at] >= below) damaged(path);
    return flat[at++];
  };
  while (at < flat.size()) {
    RowState row;
    row.age = take(0, INT32_MAX);
    const int32_t segments = take(0, INT32_MAX), blocks = take(0, INT32_MAX);
    for (int32_t s = 0; s < segments; s++) {
      const int32_t example = take(0, static_cast<int64_t>(examples.size()));
      const int32_t prefix = take(0, static_cast<int64_t>(examples[example].prompt.size()));
      row.segments.push_back({example, prefix, take(0, 2) == 1});
    }
    for (int32_t b = 0; b < blocks; b++) {
      Block block{take(0, segments), 0, {}};
      block.start = take(0, static_cast<int64_t>(examples[row.segments[block.segment].example].answer.size()));
      for (int j = 0; j < n; j++) block.tokens.push_back(take(0, vocab));
      row.blocks.push_back(std::move(block));
    }
    pool.push_back(std::move(row));
  }
  return pool;
}

template <typename T>
std::vector<T> read_array(const gguf_context* file, const char* key, gguf_type type, const std::string& path) {
  const int64_t id = gguf_find_key(file, key);
  if (id < 0 || gguf_get_kv_type(file, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(file, id) != type) damaged(path);
  const T* data = static_cast<const T*>(gguf_get_arr_data(file, id));
  return std::vector<T>(data, data + gguf_get_arr_n(file, id));
}

}  // namespace

void Trainer::save_checkpoint(const std::string& path) const {
  GgufWriter writer;
  gguf_context* metadata = writer.metadata();
  gguf_set_val_str(metadata, kFingerprint, options_.fingerprint.c_str());
  const int64_t counters[] = {step_, static_cast<int64_t>(draws_), row_cursor_, static_cast<int64_t>(pool_cursor_)};
  gguf_set_arr_data(metadata, kCounters, GGUF_TYPE_INT64, counters, std::size(counters));
  const auto pool = flatten(pool_);
  gguf_set_arr_data(metadata, kPool, GGUF_TYPE_INT32, pool.data(), pool.size());
  for (const auto& p : weights_.all()) {
    if (!p.trained) continue;
    for (const auto& part : kParts) {
      const ggml_tensor* tensor = p.*part.tensor;
      const int64_t shape[] = {p.in, p.out};
      writer.add(p.name + part.suffix, GGML_TYPE_F32, std::span(shape, p.vector ? 1 : 2),
                 [tensor](void* target) { ggml_backend_tensor_get(tensor, target, 0, ggml_nbytes(tensor)); });
    }
  }
  writer.write(path, "CLLM_TRAINING_FAILED");
}

void Trainer::load_checkpoint(const std::string& path) {
  const GgufPointer file(gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}));
  const FilePointer data(std::fopen(path.c_str(), "rb"));
  if (!file || !data) damaged(path);
  const int64_t id = gguf_find_key(file.get(), kFingerprint);
  if (id < 0 || gguf_get_kv_type(file.get(), id) != GGUF_TYPE_STRING) damaged(path);
  if (options_.fingerprint != gguf_get_val_str(file.get(), id)) {
    throw Error("CLLM_INVALID_DATA",
                "The checkpoint " + path + " is of another run: base model, data, options or backend differ");
  }
  const auto counters = read_array<int64_t>(file.get(), kCounters, GGUF_TYPE_INT64, path);
  if (counters.size() != 4 || counters[0] < 0 || counters[0] > steps() || counters[2] < 0) damaged(path);
  auto pool = unflatten(read_array<int32_t>(file.get(), kPool, GGUF_TYPE_INT32, path), examples_, options_.block,
                        weights_.architecture().vocab, path);
  if (counters[3] < 0 || counters[3] > static_cast<int64_t>(pool.size())) damaged(path);
  std::vector<char> bytes;
  for (const auto& p : weights_.all()) {
    if (!p.trained) continue;
    for (const auto& part : kParts) {
      ggml_tensor* tensor = p.*part.tensor;
      const int64_t t = gguf_find_tensor(file.get(), (p.name + part.suffix).c_str());
      if (t < 0 || gguf_get_tensor_type(file.get(), t) != GGML_TYPE_F32 ||
          gguf_get_tensor_size(file.get(), t) != ggml_nbytes(tensor)) {
        damaged(path);
      }
      if (!read_tensor(file.get(), data.get(), t, bytes)) damaged(path);
      ggml_backend_tensor_set(tensor, bytes.data(), 0, bytes.size());
    }
  }
  step_ = counters[0];
  draws_ = static_cast<uint64_t>(counters[1]);
  row_cursor_ = counters[2];
  pool_cursor_ = static_cast<size_t>(counters[3]);
  pool_ = std::move(pool);
  epoch_ = -1;
  optimizer_->refresh();
}

}  // namespace cllm
