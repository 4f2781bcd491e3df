#pragma once

#include <cstdio>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/ggml_pointers.h"

namespace cllm {

struct FileDeleter {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FilePointer = std::unique_ptr<std::FILE, FileDeleter>;

/// Reads the bytes of a tensor as they are in the file. Returns false where they cannot be read.
bool read_tensor(const gguf_context* file, std::FILE* data, int64_t tensor, std::vector<char>& bytes);

/// Converts `count` values, whole blocks of their type, to F32. Returns false for a type that has no such conversion.
bool to_floats(ggml_type type, const void* from, float* to, int64_t count);

/// Writes a GGUF file tensor by tensor, so that at most one of them is in memory a second time.
class GgufWriter {
 public:
  GgufWriter();
  /// The metadata to be written. gguf_set_kv copies those of another file.
  gguf_context* metadata() { return file_.get(); }
  /// Announces a tensor of up to four dimensions. `data` fills a buffer of ggml_nbytes() when the tensor is written.
  void add(const std::string& name, ggml_type type, std::span<const int64_t> shape, std::function<void(void*)> data);
  /// Throws Error `code` with the system's reason (disk full). The caller removes the half-written file.
  void write(const std::string& path, const char* code) const;

 private:
  struct Tensor {
    size_t size;
    std::function<void(void*)> data;
  };
  GgufPointer file_;
  std::vector<Tensor> tensors_;
};

}  // namespace cllm
