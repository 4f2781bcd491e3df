#pragma once

#include "addon/napi_api.h"

namespace cllm {

/// `chooseTokens` and `verifyBlocks` of lib/addon.d.ts: native/kernels on the arrays of a JS caller. They run on the JS
/// thread, on the device of this binary.
Napi::Value choose_tokens(const Napi::CallbackInfo& call);
Napi::Value verify_blocks(const Napi::CallbackInfo& call);

}  // namespace cllm
