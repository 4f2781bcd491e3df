#include "llama/pattern_bounds.h"

#include <cstdint>

#include "llama/grammar_bounds.h"

namespace cllm {

namespace {

constexpr size_t kMaxPatternBytes = 10'000;  // the converter's time is quadratic in the bytes

/// Checks the text between braces. The converter gives up a pattern whose braces hold no number.
std::string why_count_refused(const std::string& count) {
  if (count.find_first_of("0123456789") == std::string::npos) return "";
  uint64_t minimum = 0, maximum = 0;
  const char* at = read_number(count.c_str(), minimum);
  maximum = minimum;
  if (*at == ',') {
    const char* from = ++at;
    at = read_number(at, maximum);
    if (at == from) maximum = kNoMaximum;
  }
  if (at != count.c_str() + count.size()) return "counts in the form {m}, {m,} or {m,n}";
  if (why_repetition_refused(minimum, maximum).empty()) return "";
  return "counts from 0 to " + std::to_string(kMaxRepetitions) + ", the larger one last,";
}

}  // namespace

std::string why_pattern_refused(const std::string& pattern) {
  if (pattern.size() > kMaxPatternBytes) return "at most " + std::to_string(kMaxPatternBytes) + " bytes";
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); i++) {
    if (pattern[i] == '\\') {
      i++;
    } else if (in_class) {
      in_class = pattern[i] != ']';
    } else if (pattern[i] == '[') {
      in_class = true;
    } else if (pattern[i] == '{') {
      const size_t end = pattern.find('}', i);
      if (end == std::string::npos) return "";
      const std::string reason = why_count_refused(pattern.substr(i + 1, end - i - 1));
      if (!reason.empty()) return reason;
      i = end;
    }
  }
  return "";
}

}  // namespace cllm
