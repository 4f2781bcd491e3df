#include "random_weights.h"

#include <cmath>
#include <string_view>

namespace cllm {

namespace {

uint64_t mix(uint64_t x) {  // SplitMix64
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint64_t hash_of(std::string_view text) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

/// About normal, deviation 1: a sum of four uniform numbers. One multiplication more would cost more than its accuracy
/// is worth: a model of a gigabyte is drawn in seconds.
float normal(uint64_t bits) {
  const int sum = static_cast<int>(bits & 0xffff) + static_cast<int>((bits >> 16) & 0xffff) +
                  static_cast<int>((bits >> 32) & 0xffff) + static_cast<int>(bits >> 48);
  return static_cast<float>(sum - 2 * 0xffff) * (1.7320508f / 0xffff);
}

bool has_word(std::string_view name, std::string_view word) { return name.find(word) != name.npos; }

/// A weight is center + deviation * normal, or its negative size where `negative`.
struct Law {
  float center, deviation;
  bool negative = false;
};

Law law_of(std::string_view name, int64_t row, const WeightOptions& options) {
  const bool bias = name.ends_with(".bias");
  if (name.ends_with(".ssm_a")) return {0.3f, 0.5f, true};  // a state decays
  if (name.ends_with(".ssm_d")) return {1, 0.1f};
  // With the output tied to the embeddings and a last norm of ones, every token would be followed by itself.
  if (name == "output_norm.weight" || name == "token_embd_norm.weight") return {0, 1};
  // Sharp attention: heads that look everywhere at once bring texts to a halt.
  if (has_word(name, "attn_q_norm") || has_word(name, "attn_k_norm")) return {bias ? 0 : 3.0f, 0.1f};
  if (has_word(name, "norm") && !bias) return {1, 0.1f};
  if (has_word(name, "time_mix_lerp") || has_word(name, "channel_mix_lerp")) return {0.5f, 0.2f};
  if (has_word(name, "rope_f")) return {1, 0.05f};  // rope_freqs, rope_factors_*: the rotation divides by them
  if (has_word(name, "ssm_conv1d") || has_word(name, "shortconv.conv")) return {0, bias ? 0.1f : 0.5f};
  if (has_word(name, "ssm_dt.bias") || has_word(name, "attn_sinks")) return {0, 1};
  if (bias) return {0, 0.1f};
  if (options.deviation > 0) return {0, options.deviation};
  const bool sharp = has_word(name, "attn_q.") || has_word(name, "attn_k.") || has_word(name, "attn_q_b.");
  return {0, (sharp ? 3 : 1.6f) / std::sqrt(static_cast<float>(row))};
}

}  // namespace

void draw_weights(const std::string& name, int64_t row, uint64_t first, size_t count, const WeightOptions& options,
                  float* out) {
  const Law law = law_of(name, row, options);
  const uint64_t stream = mix(hash_of(name) ^ mix(options.seed));
  for (size_t i = 0; i < count; i++) {
    const float value = law.deviation * normal(mix(stream + first + i));
    out[i] = law.negative ? -(law.center + std::abs(value)) : law.center + value;
  }
}

}  // namespace cllm
