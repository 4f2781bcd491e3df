#pragma once

#include <cstdint>
#include <string>

#include "ggml.h"

namespace cllm {

/// How the weights of a generated model are drawn. They are the same on every machine.
struct WeightOptions {
  uint64_t seed = 1;
  float deviation = 0;  // standard deviation of matrices; 0: 1.6 / sqrt(row), which is 0.1 for rows of 256
};

/// Draws weights of the tensor `name`, elements `first` to `first + count - 1`. `row` is the number of inputs.
void draw_weights(const std::string& name, int64_t row, uint64_t first, size_t count, const WeightOptions& options,
                  float* out);

}  // namespace cllm
