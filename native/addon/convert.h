#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "addon/napi_api.h"
#include "decode/command.h"
#include "kernels/types.h"

namespace cllm {

// JS values become plain structs here, and structs become JS values. lib/options.ts has validated the values. These
// functions check again what would corrupt memory (types, token ids, sizes) and throw TypeError or RangeError.

/// Copies an Int32Array of token ids and checks each against the vocabulary.
std::vector<Token> to_tokens(const Napi::Value& value, int vocab_size);
Napi::Value from_tokens(Napi::Env env, const std::vector<Token>& tokens);

double to_number(const Napi::Value& value, const char* name);
int64_t to_integer(const Napi::Value& value, const char* name, int64_t lowest, int64_t highest);
bool to_bool(const Napi::Value& value, const char* name);
std::string to_text(const Napi::Value& value, const char* name);
Napi::Object to_object(const Napi::Value& value, const char* name);

/// A Choosing of lib/addon.d.ts; `vocab` is the model's.
Choosing to_choosing(const Napi::Value& value, int vocab);
RuleOptions to_rules(const Napi::Value& value);

/// A DraftSource of lib/addon.d.ts.
DraftSource to_draft_source(const Napi::Value& value);

/// One DecoderEvent of lib/addon.d.ts.
Napi::Value from_event(Napi::Env env, const Event& event);

}  // namespace cllm
