#include "decode/model_file.h"

#include <filesystem>
#include <fstream>

namespace cllm {

std::optional<ModelFileError> check_model_file(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) return ModelFileError{"CLLM_MODEL_NOT_FOUND", "Expected a GGUF file but " + path + " does not exist"};
  if (!fs::is_regular_file(status)) return ModelFileError{"CLLM_INVALID_MODEL", "Expected a GGUF file but " + path + " is not a regular file"};
  std::ifstream in(path, std::ios::binary);
  if (!in) return ModelFileError{"CLLM_INVALID_MODEL", "Expected a GGUF file but " + path + " cannot be read"};
  char magic[4] = {};
  in.read(magic, 4);
  if (std::string(magic, 4) != "GGUF") return ModelFileError{"CLLM_INVALID_MODEL", "Expected a GGUF file but " + path + " does not begin with GGUF"};
  return std::nullopt;
}

}  // namespace cllm
