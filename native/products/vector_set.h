#pragma once

// All kernels for the vectors of the vector_*.h that was included before.
#include "products/attention_kernel.h"
#include "products/half_kernel.h"
#include "products/product_set.h"
#include "products/quantized_kernel.h"

namespace cllm {

namespace {

constexpr ProductSet vector_set(const char* name, bool (*runs_here)()) {
  return {name, runs_here, round_columns, multiply_quantized, multiply_halves, attend_rows};
}

}  // namespace

}  // namespace cllm
