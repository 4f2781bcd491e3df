#pragma once

#include <cstdint>
#include <vector>

#include "base/host_device.h"
#include "base/token.h"

namespace cllm {

constexpr int32_t kMaxKeyLength = 3;  // tokens of a key, the last tokens of a text, which are looked up in it

/// Places of a bucket that a lookup compares with its key, at most. It bounds the cost of a lookup, whatever the text.
constexpr int32_t kMaxPlaces = 16;

/// The tokens of a key, the last one first. Those behind its length have any value.
struct Key {
  Token tokens[kMaxKeyLength] = {};
};

/// The key of the `length` tokens in front of tokens[place], length <= place.
CLLM_HOST_DEVICE inline Key key_before(const Token* tokens, int64_t place, int32_t length) {
  Key key;
  for (int32_t i = 0; i < kMaxKeyLength; i++) {
    if (i < length) key.tokens[i] = tokens[place - 1 - i];
  }
  return key;
}

/// Where the tokens of a text stand, so that a lookup costs the same in a short text and in a long one. A place is the
/// index of a token, and its keys are the one, two and three tokens in front of it. For each length of key the places
/// are in buckets, chosen by a hash of the key. A bucket is a chain of its places, the latest first. So its content
/// depends on the text alone, and the places of a text can be forgotten in the reverse order.
///
/// The arrays are on the device that uses them; `advance` and TextIndex keep them.
struct PlaceIndex {
  int32_t* latest = nullptr;   // [kMaxKeyLength, 1 << bits]: the latest place of each bucket, or 0
  int32_t* earlier = nullptr;  // [places, kMaxKeyLength]: the place before this one in its bucket, or 0
  int32_t bits = 0;            // 1 <= bits <= 31

  /// The bucket in `latest` of a key of `length` tokens.
  CLLM_HOST_DEVICE int64_t bucket(int32_t length, const Key& key) const {
    // The multiplicative hash of Knuth (The Art of Computer Programming, volume 3, section 6.4), one step per token.
    auto hash = static_cast<uint64_t>(length);
    for (int32_t i = 0; i < kMaxKeyLength; i++) {
      if (i >= length) break;
      hash = (hash ^ (hash >> 32) ^ static_cast<uint32_t>(key.tokens[i])) * 0x9E3779B97F4A7C15ull;
    }
    return (static_cast<int64_t>(length - 1) << bits) + static_cast<int64_t>(hash >> (64 - bits));
  }
  /// The place before `place` in the bucket of its key of `length` tokens.
  CLLM_HOST_DEVICE int32_t& before(int64_t place, int32_t length) const {
    return earlier[place * kMaxKeyLength + length - 1];
  }
};

/// Adds the place of tokens[place], place >= 1, to the index of a text whose earlier places it holds.
inline void add_place(const PlaceIndex& index, const Token* tokens, int64_t place) {
  for (int32_t length = 1; length <= kMaxKeyLength; length++) {
    index.before(place, length) = 0;
    if (length > place) continue;
    int32_t& latest = index.latest[index.bucket(length, key_before(tokens, place, length))];
    index.before(place, length) = latest;
    latest = static_cast<int32_t>(place);
  }
}

/// The index of a text in host memory.
class TextIndex {
 public:
  /// Makes the index empty, for texts of up to about `size` tokens. Longer texts are indexed, with fuller buckets.
  explicit TextIndex(int64_t size);
  /// PlaceIndex::bits of such an index: there are at least as many buckets as tokens.
  static int32_t bits_for(int64_t size);
  const PlaceIndex& view() const { return view_; }
  /// The places of the text's first `places` tokens are indexed, [1, places).
  int64_t places() const { return places_; }
  /// Indexes the places of tokens[0 .. size). Those that were indexed before must still have the same tokens.
  void grow(const Token* tokens, int64_t size);
  /// Forgets the places from `size` on. `tokens` must still hold the tokens of all places.
  void shrink(const Token* tokens, int64_t size);

  TextIndex(const TextIndex& other) { *this = other; }
  TextIndex& operator=(const TextIndex& other);
  TextIndex(TextIndex&&) noexcept = default;
  TextIndex& operator=(TextIndex&&) noexcept = default;

 private:
  std::vector<int32_t> latest_, earlier_;
  int64_t places_ = 1;
  PlaceIndex view_;
};

}  // namespace cllm
