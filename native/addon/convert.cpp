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
  const auto set = [&](const char* name, double value) { object.Set(name, Napi::Number::New(env, value)); };
  set("promptTokens", static_cast<double>(stats.prompt_tokens));
  set("cachedTokens", static_cast<double>(stats.cached_tokens));
  set("emittedTokens", static_cast<double>(stats.emitted_tokens));
  set("iterations", static_cast<double>(stats.iterations));
  set("fastForwardedTokens", static_cast<double>(stats.fast_forwarded_tokens));
  set("stationaryTokens", static_cast<double>(stats.stationary_tokens));
  const auto set_counts = [&](const char* name, const std::map<int, int64_t>& counts) {
    auto of = Napi::Object::New(env);
    for (const auto& [value, count] : counts) {
      of.Set(static_cast<uint32_t>(value), Napi::Number::New(env, static_cast<double>(count)));
    }
    object.Set(name, of);
  };
  set_counts("blockSizes", stats.block_sizes);
  set_counts("candidates", stats.candidates);
  set("prefillMilliseconds", stats.prefill_milliseconds);
  set("decodeMilliseconds", stats.decode_milliseconds);
  set("forwardMilliseconds", stats.forward_milliseconds);
  return object;
}

Napi::Value from_logprobs(Napi::Env env, const std::vector<Logprobs>& logprobs) {
  auto array = Napi::Array::New(env, logprobs.size());
  for (size_t i = 0; i < logprobs.size(); i++) {
    const Napi::HandleScope scope(env);
    auto top = Napi::Array::New(env, logprobs[i].top.size());
    for (size_t k = 0; k < logprobs[i].top.size(); k++) {
      auto one = Napi::Object::New(env);
      one.Set("token", Napi::Number::New(env, logprobs[i].top[k].first));
      one.Set("logprob", Napi::Number::New(env, logprobs[i].top[k].second));
      top.Set(static_cast<uint32_t>(k), one);
    }
    auto object = Napi::Object::New(env);
    object.Set("logprob", Napi::Number::New(env, logprobs[i].chosen));
    object.Set("top", top);
    array.Set(static_cast<uint32_t>(i), object);
  }
  return array;
}

Napi::Value from_iteration(Napi::Env env, const Event& event) {
  const Iteration& iteration = event.iteration;
  auto object = Napi::Object::New(env);
  object.Set("position", Napi::Number::New(env, iteration.position));
  object.Set("block", from_tokens(env, iteration.block));
  object.Set("choices", from_tokens(env, iteration.choices));
  object.Set("accepted", Napi::Number::New(env, iteration.accepted));
  object.Set("tokens", from_tokens(env, {iteration.choices.begin(), iteration.choices.begin() + iteration.emitted}));
  object.Set("stationary", Napi::Number::New(env, iteration.stationary));
  object.Set("forwardMilliseconds", Napi::Number::New(env, event.forward_milliseconds));
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
  // What the kernels take for granted: numbers, and a top-p that something can reach.
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
  if (name == "choices") return kDraftFill;
  if (name == "lookup") return kDraftLookup;
  return std::nullopt;
}

Napi::Value from_event(Napi::Env env, const Event& event) {
  auto object = Napi::Object::New(env);
  object.Set("id", Napi::Number::New(env, event.id));
  const auto type = [&](const char* name) { object.Set("type", Napi::String::New(env, name)); };
  switch (event.type) {
    case Event::Type::kChunk:
      type("chunk");
      object.Set("text", Napi::String::New(env, event.text));
      object.Set("tokens", from_tokens(env, event.tokens));
      break;
    case Event::Type::kDone:
      type("done");
      object.Set("text", Napi::String::New(env, event.text));
      object.Set("tokens", from_tokens(env, event.tokens));
      object.Set("finishReason", Napi::String::New(env, event.reason));
      object.Set("logprobs", from_logprobs(env, event.logprobs));
      object.Set("stats", from_stats(env, event.stats));
      break;
    case Event::Type::kSequence:
      type("sequence");
      object.Set("sequence", Napi::Number::New(env, event.sequence));
      object.Set("tokens", from_tokens(env, event.tokens));
      break;
    case Event::Type::kPrefilled:
      type("prefilled");
      object.Set("reused", Napi::Number::New(env, event.reused));
      object.Set("prefilled", Napi::Number::New(env, event.prefilled));
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
