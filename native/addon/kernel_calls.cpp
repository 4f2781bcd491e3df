#include "addon/kernel_calls.h"

#include <vector>

#include "addon/convert.h"
#include "addon/errors.h"
#include "base/limits.h"
#include "kernels/device.h"

namespace cllm {

namespace {

// Checks type and size of an array that a kernel will index, because the kernel trusts them.
template <typename T>
const T* array_of(const Napi::Value& value, napi_typedarray_type type, size_t min_count, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    throw Napi::TypeError::New(value.Env(), std::string("Expected a typed array of the right kind for ") + name);
  }
  const auto array = value.As<Napi::TypedArrayOf<T>>();
  if (array.ElementLength() < min_count) {
    throw Napi::RangeError::New(value.Env(), std::string("Expected at least ") + std::to_string(min_count) +
                                                 " elements for " + name + " but received " +
                                                 std::to_string(array.ElementLength()));
  }
  return array.Data();
}

/// Copies an array to the device. On the CPU the caller's own memory is used: kernels only read it, and are done on
/// return.
template <typename T>
const T* on_device(KernelDevice& device, const T* data, size_t count) {
  if (device.on_host() || data == nullptr) return data;
  T* copy = static_cast<T*>(device.allocate(count * sizeof(T)));
  device.write(copy, data, count * sizeof(T));
  return copy;
}

}  // namespace

Napi::Value choose_tokens(const Napi::CallbackInfo& call) {
  Napi::Env env = call.Env();
  return guarded(env, [&]() -> Napi::Value {
    const int64_t vocab = to_integer(call[1], "vocab", 1, INT32_MAX);
    const int64_t stride = to_integer(call[2], "stride", vocab, INT32_MAX);
    const int64_t rows = to_integer(call[3], "rows", 0, 1 << 20);
    const auto needed = static_cast<size_t>(rows == 0 ? 0 : (rows - 1) * stride + vocab);
    const float* logits = array_of<float>(call[0], napi_float32_array, needed, "logits");
    const Sampling sampling = to_choosing(call[4], static_cast<int>(vocab)).sampling;
    LaneState lane;  // one lane, whose block is all rows
    lane.position = static_cast<int32_t>(to_integer(call[5], "position", 0, INT32_MAX - rows)) - 1;
    const auto device = make_device();
    std::vector<Token> tokens(static_cast<size_t>(rows));
    if (rows != 0) {
      Token* choices = static_cast<Token*>(device->allocate(tokens.size() * sizeof(Token)));
      device->choose({.logits = on_device(*device, logits, needed),
                      .rows = rows,
                      .vocab = vocab,
                      .stride = stride,
                      .choices = choices,
                      .sampling = on_device(*device, &sampling, 1),
                      .rows_per_lane = rows,
                      .lanes = on_device<LaneState>(*device, &lane, 1),
                      .block = static_cast<int32_t>(rows)});
      device->read(tokens.data(), choices, tokens.size() * sizeof(Token));
    }
    return from_tokens(env, tokens);
  });
}

Napi::Value verify_blocks(const Napi::CallbackInfo& call) {
  Napi::Env env = call.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto input = to_object(call[0], "input");
    PassShape shape;
    shape.lanes = static_cast<int32_t>(to_integer(input.Get("lanes"), "lanes", 1, 1 << 16));
    shape.candidates = static_cast<int32_t>(to_integer(input.Get("candidates"), "candidates", 1, kMaxCandidates));
    shape.block = static_cast<int32_t>(to_integer(input.Get("block"), "block", 1, kMaxBlockSize));
    const auto rows = static_cast<size_t>(shape.rows());
    const auto lanes = static_cast<size_t>(shape.lanes);
    const auto draft_tokens = lanes * static_cast<size_t>(shape.block);
    const Token* tokens = array_of<int32_t>(input.Get("tokens"), napi_int32_array, rows, "tokens");
    const Token* choices = array_of<int32_t>(input.Get("choices"), napi_int32_array, rows, "choices");
    const int32_t* budgets = array_of<int32_t>(input.Get("budgets"), napi_int32_array, lanes, "budgets");
    const uint8_t* stood = array_of<uint8_t>(input.Get("stood"), napi_uint8_array, draft_tokens, "stood");
    const uint8_t* ends = array_of<uint8_t>(input.Get("endOfGeneration"), napi_uint8_array, 0, "endOfGeneration");
    const size_t vocab = input.Get("endOfGeneration").As<Napi::TypedArray>().ElementLength();
    for (size_t r = 0; r < rows; r++) {
      if (choices[r] < 0 || static_cast<size_t>(choices[r]) >= vocab) {
        throw Napi::RangeError::New(
            env, "Expected choices below " + std::to_string(vocab) + " but received " + std::to_string(choices[r]));
      }
    }
    std::vector<LaneState> states(lanes);
    for (size_t b = 0; b < lanes; b++) {
      states[b].budget = budgets[b];
      states[b].row_end = INT32_MAX;
      states[b].stop_at_end = 1;
    }
    const auto device = make_device();
    Verdict* verdicts = static_cast<Verdict*>(device->allocate(lanes * sizeof(Verdict)));
    device->verify({.shape = shape,
                    .tokens = on_device(*device, tokens, rows),
                    .choices = on_device(*device, choices, rows),
                    .stood = on_device(*device, stood, draft_tokens),
                    .end_of_generation = on_device(*device, ends, vocab),
                    .lanes = on_device<LaneState>(*device, states.data(), lanes),
                    .verdicts = verdicts});
    std::vector<Verdict> results(lanes);
    device->read(results.data(), verdicts, lanes * sizeof(Verdict));
    const auto column = [&](int32_t Verdict::*field) {
      auto array = Napi::Int32Array::New(env, lanes);
      for (size_t b = 0; b < lanes; b++) array.Data()[b] = results[b].*field;
      return array;
    };
    auto result = Napi::Object::New(env);
    result.Set("winner", column(&Verdict::winner));
    result.Set("accepted", column(&Verdict::accepted));
    result.Set("emitted", column(&Verdict::emitted));
    result.Set("stationary", column(&Verdict::stationary));
    result.Set("ended", column(&Verdict::ended));
    return result;
  });
}

}  // namespace cllm
