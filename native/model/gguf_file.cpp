#include "model/gguf_file.h"

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace cllm {

bool read_tensor(const gguf_context* file, std::FILE* data, int64_t tensor, std::vector<char>& bytes) {
  bytes.resize(gguf_get_tensor_size(file, tensor));
  const size_t offset = gguf_get_data_offset(file) + gguf_get_tensor_offset(file, tensor);
  return fseeko(data, static_cast<off_t>(offset), SEEK_SET) == 0 &&
         std::fread(bytes.data(), 1, bytes.size(), data) == bytes.size();
}

bool to_floats(ggml_type type, const void* from, float* to, int64_t count) {
  if (type == GGML_TYPE_F32) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
    return true;
  }
  const auto convert = ggml_get_type_traits(type)->to_float;
  if (convert != nullptr) convert(from, to, count);
  return convert != nullptr;
}

GgufWriter::GgufWriter() : file_(gguf_init_empty()) {}

void GgufWriter::add(const std::string& name, ggml_type type, std::span<const int64_t> shape,
                     std::function<void(void*)> data) {
  ggml_init_params params{ggml_tensor_overhead() + 64, nullptr, true};
  const GgmlContextPointer ctx(ggml_init(params));
  ggml_tensor* tensor = ggml_new_tensor(ctx.get(), type, static_cast<int>(shape.size()), shape.data());
  ggml_set_name(tensor, name.c_str());
  gguf_add_tensor(file_.get(), tensor);
  tensors_.push_back({ggml_nbytes(tensor), std::move(data)});
}

void GgufWriter::write(const std::string& path, const char* code) const {
  const auto check = [&](bool written) {
    if (!written) throw Error(code, "Could not write " + path + ": " + std::strerror(errno));
  };
  FilePointer file(std::fopen(path.c_str(), "wb"));
  check(file != nullptr);
  std::vector<char> bytes(gguf_get_meta_size(file_.get()));
  gguf_get_meta_data(file_.get(), bytes.data());
  check(std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size());
  const size_t alignment = gguf_get_alignment(file_.get());
  for (const auto& tensor : tensors_) {
    bytes.assign((tensor.size + alignment - 1) / alignment * alignment, 0);
    tensor.data(bytes.data());
    check(std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size());
  }
  check(std::fflush(file.get()) == 0);
  check(std::fclose(file.release()) == 0);
}

}  // namespace cllm
