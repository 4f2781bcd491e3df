#include "kernels/place_index.h"

#include <algorithm>
#include <bit>

namespace cllm {

TextIndex::TextIndex(int64_t size) {
  view_.bits = bits_for(size);
  latest_.resize(static_cast<size_t>(kMaxKeyLength) << view_.bits);
  view_.latest = latest_.data();
}

int32_t TextIndex::bits_for(int64_t size) {
  return std::max(4, static_cast<int32_t>(std::bit_width(static_cast<uint64_t>(std::max<int64_t>(size, 1) - 1))));
}

TextIndex& TextIndex::operator=(const TextIndex& other) {
  latest_ = other.latest_;
  earlier_ = other.earlier_;
  places_ = other.places_;
  view_ = {latest_.data(), earlier_.data(), other.view_.bits};
  return *this;
}

void TextIndex::grow(const Token* tokens, int64_t size) {
  if (size <= places_) return;
  earlier_.resize(static_cast<size_t>(size * kMaxKeyLength));
  view_.earlier = earlier_.data();
  for (; places_ < size; places_++) add_place(view_, tokens, places_);
}

void TextIndex::shrink(const Token* tokens, int64_t size) {
  while (places_ > std::max<int64_t>(size, 1)) {
    const int64_t place = --places_;
    for (int32_t length = 1; length <= std::min<int64_t>(kMaxKeyLength, place); length++) {
      view_.latest[view_.bucket(length, key_before(tokens, place, length))] = view_.before(place, length);
    }
  }
}

}  // namespace cllm
