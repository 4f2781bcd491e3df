#include "addon/devices.h"

#include <string>
#include <vector>

#include "addon/convert.h"
#include "addon/errors.h"
#include "base/error.h"
#include "base/ggml_guard.h"
#include "base/ggml_pointers.h"

namespace cllm {

namespace {

const char* kind_of(enum ggml_backend_dev_type type) {
  switch (type) {
    case GGML_BACKEND_DEVICE_TYPE_CPU: return "cpu";
    case GGML_BACKEND_DEVICE_TYPE_GPU: return "gpu";
    case GGML_BACKEND_DEVICE_TYPE_IGPU: return "integrated";
    case GGML_BACKEND_DEVICE_TYPE_ACCEL: return "accelerator";
    default: return "other";
  }
}

// Multiplies matrices of ones, once with few columns and once with many: on CUDA these take ggml's own kernels and
// cuBLAS. A binary without machine code for this GPU, or an unfitting driver or cuBLAS, fails here and not in a user's
// first pass.
void prove(ggml_backend_dev_t device) {
  constexpr int64_t kSize = 64;
  constexpr int64_t kColumns[] = {2, 512};
  const std::string name = ggml_backend_dev_name(device);
  const auto fail = [&](const std::string& why) { throw Error("CLLM_BACKEND_UNAVAILABLE", name + " " + why); };
  const GgmlGuard guard;
  clear_last_log_error();
  const BackendPointer backend(ggml_backend_dev_init(device, nullptr));
  if (!backend) fail("could not be started: " + take_last_log_error());
  const ggml_init_params params{ggml_tensor_overhead() * 8 + ggml_graph_overhead(), nullptr, /*no_alloc=*/true};
  const GgmlContextPointer context(ggml_init(params));
  ggml_cgraph* graph = ggml_new_graph(context.get());
  ggml_tensor* left = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, kSize, kSize);
  ggml_tensor* right = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, kSize, kColumns[1]);
  std::vector<ggml_tensor*> products;
  for (const int64_t columns : kColumns) {
    ggml_tensor* part = ggml_view_2d(context.get(), right, kSize, columns, right->nb[1], 0);
    products.push_back(ggml_mul_mat(context.get(), left, part));
    ggml_build_forward_expand(graph, products.back());
  }
  const BufferPointer buffer(ggml_backend_alloc_ctx_tensors(context.get(), backend.get()));
  if (!buffer) fail("has no memory left: " + take_last_log_error());
  const std::vector<float> ones(static_cast<size_t>(kSize * kColumns[1]), 1.0f);
  for (ggml_tensor* tensor : {left, right}) ggml_backend_tensor_set(tensor, ones.data(), 0, ggml_nbytes(tensor));
  if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) {
    fail("could not compute: " + take_last_log_error());
  }
  for (const ggml_tensor* product : products) {
    std::vector<float> values(static_cast<size_t>(ggml_nelements(product)));
    ggml_backend_tensor_get(product, values.data(), 0, ggml_nbytes(product));
    for (const float value : values) {
      if (value != kSize) fail("computes wrongly: a sum of ones was " + std::to_string(value));
    }
  }
}

}  // namespace

Napi::Value list_devices(const Napi::CallbackInfo& call) {
  Napi::Env env = call.Env();
  return guarded(env, [&]() -> Napi::Value {
    const bool proving = to_bool(call[0], "prove");
    auto devices = Napi::Array::New(env);
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
      ggml_backend_dev_t device = ggml_backend_dev_get(i);
      const auto type = ggml_backend_dev_type(device);
      if (proving && (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU)) prove(device);
      size_t free = 0, total = 0;
      {
        const GgmlGuard guard;
        ggml_backend_dev_memory(device, &free, &total);
      }
      auto object = Napi::Object::New(env);
      object.Set("name", ggml_backend_dev_name(device));
      object.Set("description", ggml_backend_dev_description(device));
      object.Set("kind", kind_of(type));
      object.Set("freeMemory", free);
      object.Set("totalMemory", total);
      devices.Set(static_cast<uint32_t>(i), object);
    }
    return devices;
  });
}

}  // namespace cllm
