#pragma once

#include <stdexcept>
#include <string>

namespace cllm {

/// A run-time failure with one of the stable codes of lib/errors.ts. The addon turns it into a CllmError.
class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message) : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

}  // namespace cllm
