#include "decode/text_stream.h"

#include <algorithm>

namespace cllm {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

enum class Utf8 { kValid, kInvalid, kUnfinished };

struct Sequence {
  Utf8 state;
  size_t length;  // bytes to take; for kInvalid the maximal subpart that one U+FFFD replaces (Unicode 3.9, table 3-7)
};

Sequence next_sequence(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {Utf8::kValid, 1};
  size_t length = 0;
  if (lead >= 0xC2 && lead <= 0xDF) length = 2;
  if (lead >= 0xE0 && lead <= 0xEF) length = 3;
  if (lead >= 0xF0 && lead <= 0xF4) length = 4;
  if (length == 0) return {Utf8::kInvalid, 1};
  for (size_t i = 1; i < length; i++) {
    if (i == bytes.size()) return {Utf8::kUnfinished, i};
    unsigned char low = 0x80, high = 0xBF;
    if (i == 1 && lead == 0xE0) low = 0xA0;
    if (i == 1 && lead == 0xED) high = 0x9F;
    if (i == 1 && lead == 0xF0) low = 0x90;
    if (i == 1 && lead == 0xF4) high = 0x8F;
    if (at(i) < low || at(i) > high) return {Utf8::kInvalid, i};
  }
  return {Utf8::kValid, length};
}

}  // namespace

bool TextStream::push(std::string_view bytes) {
  if (stopped_) return true;
  bytes_.append(bytes);
  decode(false);
  return stopped_;
}

void TextStream::finish() {
  if (stopped_) return;
  decode(true);
  if (stopped_) return;
  ready_ += held_;
  held_.clear();
}

std::string TextStream::take() {
  std::string text;
  text.swap(ready_);
  return text;
}

void TextStream::decode(bool final) {
  size_t i = 0;
  while (i < bytes_.size()) {
    const Sequence s = next_sequence(std::string_view(bytes_).substr(i));
    if (s.state == Utf8::kUnfinished && !final) break;
    if (s.state == Utf8::kValid) {
      held_.append(bytes_, i, s.length);
    } else {
      held_ += kReplacement;
    }
    i += s.length;
  }
  bytes_.erase(0, i);

  size_t found = std::string::npos;
  for (const auto& stop : stop_) found = std::min(found, held_.find(stop));
  if (found != std::string::npos) {
    ready_.append(held_, 0, found);
    held_.clear();
    bytes_.clear();
    stopped_ = true;
    return;
  }
  const size_t safe = held_.size() - held_back();
  ready_.append(held_, 0, safe);
  held_.erase(0, safe);
}

// Returns the length of the longest tail of held_ that is a proper beginning of a stop string. The tail begins at a
// character because stop strings do, and nothing in front of it can still become part of a match.
size_t TextStream::held_back() const {
  size_t longest = 0;
  for (const auto& stop : stop_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > longest; length--) {
      if (std::string_view(held_).substr(held_.size() - length) == std::string_view(stop).substr(0, length)) {
        longest = length;
        break;
      }
    }
  }
  return longest;
}

}  // namespace cllm
