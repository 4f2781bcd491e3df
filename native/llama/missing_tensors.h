#pragma once

// CMakeLists.txt includes this header in llama.cpp's graphs (-include), so that their source stays unchanged.
//
// llama.cpp's loader takes some tensors for optional that its graphs then use. ggml would read the null pointer, and
// the process would end. With these macros ggml's abort is called instead, which GgmlGuard turns into an exception.
#include "ggml.h"

static inline ggml_tensor* cllm_present(ggml_tensor* tensor) {
  if (tensor == nullptr) GGML_ABORT("the file lacks a tensor that the model needs");
  return tensor;
}

// The operators that weights are operands of.
#define ggml_mul_mat(context, a, b) ggml_mul_mat(context, cllm_present(a), cllm_present(b))
#define ggml_mul_mat_id(context, a, b, ids) ggml_mul_mat_id(context, cllm_present(a), cllm_present(b), ids)
#define ggml_get_rows(context, a, ids) ggml_get_rows(context, cllm_present(a), cllm_present(ids))
#define ggml_add(context, a, b) ggml_add(context, cllm_present(a), cllm_present(b))
#define ggml_mul(context, a, b) ggml_mul(context, cllm_present(a), cllm_present(b))
#define ggml_ssm_conv(context, a, b) ggml_ssm_conv(context, cllm_present(a), cllm_present(b))
