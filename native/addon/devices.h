#pragma once

#include "addon/napi_api.h"

namespace cllm {

/// `devices(prove)` of lib/addon.d.ts.
Napi::Value list_devices(const Napi::CallbackInfo& call);

}  // namespace cllm
