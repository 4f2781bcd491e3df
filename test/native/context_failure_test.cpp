// Tests of the codes that users get for a context that llama.cpp could not create, by what it logged.

#include "decode/context.h"
#include "unit_test.h"

void test_context_failure() {
  const std::string head = "llama_init_from_model: failed to initialize the context: ";
  const auto expect = [](const std::string& reason, const std::string& code) {
    const cllm::Error error = cllm::context_failure(reason);
    check(error.code() == code, "context failure: " + reason + " gives " + error.code());
    check(std::string(error.what()).starts_with("llama.cpp could not create a context: "), "context failure: message");
  };
  // What missing_tensors.h says.
  expect(head + "common.cpp:7: the file lacks a tensor that the model needs", "CLLM_INVALID_MODEL");
  expect(head + "ggml.c:4005: GGML_ASSERT(a->ne[0] == b->ne[0]) failed", "CLLM_UNSUPPORTED_MODEL");
  expect("llama_kv_cache: failed to allocate buffer for kv cache", "CLLM_OUT_OF_MEMORY");
  expect("llama_init_from_model: V cache quantization requires flash_attn", "CLLM_NOT_SUPPORTED");
  expect("", "CLLM_NOT_SUPPORTED");
}
