#include "addon/convert.h"

#include <algorithm>
#include <cmath>

#include "addon/errors.h"

namespace cllm {

std::vector<Token> to_tokens(const Napi::Value& value, int vocab_size) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
    throw Napi::TypeError::New(value.Env(), "Expected an Int32Array of token ids");
  }
  const auto array = value.As<Napi::Int32Array>();
  std::vector<Token> tokens(array.Data(), array.Data() + array.ElementLength());
  for (const Token token : tokens) {
    if (token < 0 || token >= vocab_size) {
      throw Napi::RangeError::New(value.Env(), "Expected token ids from 0 to " + std::to_string(vocab_size - 1) +
                                                   " but received " + std::to_string(token));
    }
  }
  return tokens;
}

Napi::Value from_tokens(Napi::Env env, const std::vector<Token>& tokens) {
  auto array = Napi::Int32Array::New(env, tokens.size());
  std::copy(tokens.begin(), tokens.end(), array.Data());
  return array;
}

double to_number(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) throw Napi::TypeError::New(value.Env(), std::string("Expected a number for ") + name);
  return value.As<Napi::Number>().DoubleValue();
}

int64_t to_integer(const Napi::Value& value, const char* name, int64_t lowest, int64_t highest) {
  const double number = to_number(value, name);
  if (!(number >= static_cast<double>(lowest) && number <= static_cast<double>(highest)) ||
      std::trunc(number) != number) {
    throw Napi::RangeError::New(value.Env(), std::string("Expected an integer from ") + std::to_string(lowest) +
                                                 " to " + std::to_string(highest) + " for " + name);
  }
  return static_cast<int64_t>(number);
}

bool to_bool(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) throw Napi::TypeError::New(value.Env(), std::string("Expected a boolean for ") + name);
  return value.As<Napi::Boolean>().Value();
}

std::string to_text(const Napi::Value& value, const char* name) {
  if (!value.IsString()) throw Napi::TypeError::New(value.Env(), std::string("Expected a string for ") + name);
  return value.As<Napi::String>().Utf8Value();
}

Napi::Object to_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) throw Napi::TypeError::New(value.Env(), std::string("Expected an object for ") + name);
  return value.As<Napi::Object>();
}

namespace {

Napi::Value from_stats(Napi::Env env, const Stats& stats) {
  auto object = Napi::Object::New(env);
  object.Set("promptTokens", stats.prompt_tokens);
  object.Set("cachedTokens", stats.cached_tokens);
  object.Set("emittedTokens", stats.emitted_tokens);
  object.Set("iterations", stats.iterations);
  object.Set("fastForwardedTokens", stats.fast_forwarded_tokens);
  object.Set("stationaryTokens", stats.stationary_tokens);
  const auto set_counts = [&](const char* name, const std::map<int, int64_t>& counts) {
    auto histogram = Napi::Object::New(env);
    for (const auto& [value, count] : counts) histogram.Set(static_cast<uint32_t>(value), count);
    object.Set(name, histogram);
  };
  set_counts("blockSizes", stats.block_sizes);
  set_counts("candidates", stats.candidates);
  object.Set("prefillMilliseconds", stats.prefill_milliseconds);
  object.Set("decodeMilliseconds", stats.decode_milliseconds);
  object.Set("forwardMilliseconds", stats.forward_milliseconds);
  return object;
}

Napi::Value from_logprobs(Napi::Env env, const std::vector<Logprobs>& logprobs) {
  auto array = Napi::Array::New(env, logprobs.size());
  for (size_t i = 0; i < logprobs.size(); i++) {
    const Napi::HandleScope scope(env);
    auto top = Napi::Array::New(env, logprobs[i].top.size());
    for (size_t k = 0; k < logprobs[i].top.size(); k++) {
      auto alternative = Napi::Object::New(env);
      alternative.Set("token", logprobs[i].top[k].first);
      alternative.Set("logprob", logprobs[i].top[k].second);
      top.Set(static_cast<uint32_t>(k), alternative);
    }
    auto object = Napi::Object::New(env);
    object.Set("logprob", logprobs[i].chosen);
    object.Set("top", top);
    array.Set(static_cast<uint32_t>(i), object);
  }
  return array;
}

Napi::Value from_iteration(Napi::Env env, const Event& event) {
  const Iteration& iteration = event.iteration;
  auto object = Napi::Object::New(env);
  object.Set("position", iteration.position);
  object.Set("block", from_tokens(env, iteration.block));
  object.Set("choices", from_tokens(env, iteration.choices));
  object.Set("accepted", iteration.accepted);
  object.Set("tokens", from_tokens(env, {iteration.choices.begin(), iteration.choices.begin() + iteration.emitted}));
  object.Set("stationary", iteration.stationary);
  object.Set("forwardMilliseconds", event.forward_milliseconds);
  if (event.logits.empty()) {
    object.Set("logits", env.Null());
  } else {
    auto logits = Napi::Float32Array::New(env, event.logits.size());
    std::copy(event.logits.begin(), event.logits.end(), logits.Data());
    object.Set("logits", logits);
  }
  return object;
}

}  // namespace

Choosing to_choosing(const Napi::Value& value, int vocab) {
  const auto object = to_object(value, "choosing");
  const auto number = [&](const char* name) { return static_cast<float>(to_number(object.Get(name), name)); };
  Choosing choosing;
  Sampling& sampling = choosing.sampling;
  sampling.temperature = number("temperature");
  sampling.top_k = static_cast<int32_t>(to_integer(object.Get("topK"), "topK", 0, INT32_MAX));
  sampling.top_p = number("topP");
  sampling.min_p = number("minP");
  sampling.seed = static_cast<uint64_t>(to_integer(object.Get("seed"), "seed", 0, UINT32_MAX));
  // The kernels rely on numbers that are not NaN, and on a top-p above 0.
  if (!(sampling.temperature >= 0) || !(sampling.top_p > 0) || !(sampling.min_p >= 0)) {
    throw Napi::RangeError::New(value.Env(), "Expected a temperature, topP and minP in their ranges");
  }
  if (object.Get("biasTokens").IsNull()) return choosing;
  const auto tokens = to_tokens(object.Get("biasTokens"), vocab);
  const Napi::Value biases = object.Get("biases");
  if (!biases.IsTypedArray() || biases.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array ||
      biases.As<Napi::TypedArray>().ElementLength() != tokens.size()) {
    throw Napi::TypeError::New(value.Env(), "Expected a Float32Array as long as biasTokens for biases");
  }
  auto dense = std::make_shared<std::vector<float>>(static_cast<size_t>(vocab), 0.0f);
  const float* values = biases.As<Napi::Float32Array>().Data();
  for (size_t i = 0; i < tokens.size(); i++) (*dense)[static_cast<size_t>(tokens[i])] += values[i];
  choosing.bias = std::move(dense);
  return choosing;
}

RuleOptions to_rules(const Napi::Value& value) {
  const auto object = to_object(value, "rules");
  const auto number = [&](const char* name) { return static_cast<float>(to_number(object.Get(name), name)); };
  RuleOptions rules;
  rules.grammar = to_text(object.Get("grammar"), "grammar");
  rules.repeat = number("repeatPenalty");
  rules.frequency = number("frequencyPenalty");
  rules.presence = number("presencePenalty");
  rules.window = to_integer(object.Get("penaltyTokens"), "penaltyTokens", 0, INT32_MAX);
  return rules;
}

DraftSource to_draft_source(const Napi::Value& value) {
  const std::string name = to_text(value, "draftSource");
  if (name == "random") return kDraftRandom;
  if (name == "choices") return kDraftChoices;
  if (name == "lookup") return kDraftLookup;
  return std::nullopt;
}

Napi::Value from_event(Napi::Env env, const Event& event) {
  auto object = Napi::Object::New(env);
  object.Set("id", event.id);
  const auto type = [&](const char* name) { object.Set("type", name); };
  switch (event.type) {
    case Event::Type::kChunk:
      type("chunk");
      object.Set("text", event.text);
      object.Set("tokens", from_tokens(env, event.tokens));
      break;
    case Event::Type::kDone:
      type("done");
      object.Set("text", event.text);
      object.Set("tokens", from_tokens(env, event.tokens));
      object.Set("finishReason", event.reason);
      object.Set("logprobs", from_logprobs(env, event.logprobs));
      object.Set("stats", from_stats(env, event.stats));
      break;
    case Event::Type::kSequence:
      type("sequence");
      object.Set("sequence", event.sequence);
      object.Set("tokens", from_tokens(env, event.tokens));
      break;
    case Event::Type::kPrefilled:
      type("prefilled");
      object.Set("reused", event.reused);
      object.Set("prefilled", event.prefilled);
      break;
    case Event::Type::kIteration:
      type("iteration");
      object.Set("iteration", from_iteration(env, event));
      break;
    case Event::Type::kOk: type("ok"); break;
    case Event::Type::kError:
      type("error");
      object.Set("error", make_error(env, event.reason, event.text));
      break;
  }
  return object;
}

}  // namespace cllm
