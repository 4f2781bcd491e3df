#pragma once

#include <cstddef>

#include "ggml-backend-impl.h"
#include "ggml-cpu/traits.h"
#include "ggml.h"

namespace cllm {

/// One of our products as ggml-cpu calls it (tensor_traits), for one kind of packed weights.
class PackedProduct : public ggml::cpu::tensor_traits {
 public:
  /// Packs the weights `from`, which are in the order of a GGUF file, into weight->data.
  virtual void pack(const ggml_tensor* weight, const void* from) const = 0;
  virtual size_t packed_size(const ggml_tensor* weight) const { return ggml_nbytes(weight); }
};

/// The product for this weight, or null where the CPU, or our products, cannot multiply it.
PackedProduct* packed_product_of(const ggml_tensor* weight);

}  // namespace cllm
