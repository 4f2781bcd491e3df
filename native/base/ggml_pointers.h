#pragma once

#include <memory>
#include <mutex>

#include "base/capture_lock.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "gguf.h"
#include "llama.h"

namespace cllm {

// Owners of the objects that ggml and llama.cpp create. Each frees its object once, whichever way a function ends.

/// A deleter that calls ggml's or llama.cpp's own function.
template <auto free>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    free(object);
  }
};

/// llama.cpp hands batches out by value, so their owner holds a copy.
struct FreedBatch {
  void operator()(llama_batch* batch) const {
    llama_batch_free(*batch);
    delete batch;
  }
};

/// Frees what may own a cuBLAS handle.
template <auto free>
struct FreedOutsideCaptures {
  template <typename T>
  void operator()(T* object) const {
    const std::unique_lock lock(capture_lock());
    free(object);
  }
};

using GgmlContextPointer = std::unique_ptr<ggml_context, Freed<ggml_free>>;
using GgufPointer = std::unique_ptr<gguf_context, Freed<gguf_free>>;
using BackendPointer = std::unique_ptr<ggml_backend, FreedOutsideCaptures<ggml_backend_free>>;
using BufferPointer = std::unique_ptr<ggml_backend_buffer, Freed<ggml_backend_buffer_free>>;
using AllocatorPointer = std::unique_ptr<ggml_gallocr, Freed<ggml_gallocr_free>>;
using ThreadpoolPointer = std::unique_ptr<ggml_threadpool, Freed<ggml_threadpool_free>>;
using LlamaModelPointer = std::unique_ptr<llama_model, Freed<llama_model_free>>;
using LlamaContextPointer = std::unique_ptr<llama_context, FreedOutsideCaptures<llama_free>>;
using SamplerPointer = std::unique_ptr<llama_sampler, Freed<llama_sampler_free>>;
using BatchPointer = std::unique_ptr<llama_batch, FreedBatch>;

}  // namespace cllm
