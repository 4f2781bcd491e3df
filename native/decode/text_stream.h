#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cllm {

/// Turns the bytes of tokens into text that may be shown at once: only whole UTF-8 characters, and nothing that may
/// still become a stop string. Invalid bytes become U+FFFD, so that the text is the same whichever way it was cut into
/// chunks.
class TextStream {
 public:
  /// Stop strings are valid UTF-8 and not empty.
  explicit TextStream(std::vector<std::string> stop) : stop_(std::move(stop)) {}

  /// Adds a token's bytes. Returns true when a stop string is complete: the text then ends right before it.
  bool push(std::string_view bytes);
  /// The text that has become safe to show since the last call.
  std::string take();
  /// Ends the stream: text that was held back becomes ready, unless a stop string was found.
  void finish();
  bool stopped() const { return stopped_; }

 private:
  void decode(bool final);
  size_t held_back() const;

  std::vector<std::string> stop_;
  std::string bytes_;  // the tail of an unfinished UTF-8 character, at most 3 bytes
  std::string held_;   // valid text that may begin a stop string
  std::string ready_;  // valid text, safe to show
  bool stopped_ = false;
};

}  // namespace cllm
