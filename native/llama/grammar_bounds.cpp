#include "llama/grammar_bounds.h"

#include <algorithm>
#include <vector>

namespace cllm {

namespace {

constexpr size_t kMaxDepth = 500;              // nested brackets, each of which is a frame of the parser's stack
constexpr uint64_t kMaxElements = 1 << 20;     // 8 bytes each, in several copies
constexpr uint64_t kMaxNameBytes = 1 << 24;    // a generated rule has the name of its rule and a number
constexpr uint64_t kNameSuffixBytes = 1 + 10;  // "_" and that number
constexpr uint64_t kMaxTokenId = 0x7fffffff;   // the parser cuts a token's number to 32 bits

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || is_digit(c); }

/// Skips up to `count` bytes, but not the terminating zero.
const char* skip_bytes(const char* at, int count) {
  while (count-- > 0 && *at != '\0') at++;
  return at;
}

/// Skips what the parser's parse_char() reads as one character: it trusts the first byte of a UTF-8 sequence.
const char* skip_character(const char* at) {
  if (*at != '\\') {
    const int high = static_cast<unsigned char>(*at) >> 4;
    return skip_bytes(at, high == 15 ? 4 : high == 14 ? 3 : high >= 12 ? 2 : 1);
  }
  const char escape = at[1];
  return skip_bytes(at, escape == 'x' ? 4 : escape == 'u' ? 6 : escape == 'U' ? 10 : 2);
}

/// Follows the text as the parser's parse_sequence() does, but only counts what the parser would make. Where the parser
/// would fail, counting goes on: the count may then be too large, which does no harm.
class Expansion {
 public:
  explicit Expansion(const char* text) : at_(text), last_symbols_(1) {}

  std::string why_refused() {
    while (reason_.empty() && *(at_ = skip_grammar_space(at_)) != '\0') {
      read_item();
      if (reason_.empty()) check_size();
    }
    return reason_;
  }

  const GrammarSize& size() const { return size_; }

 private:
  void read_item() {
    const char c = *at_;
    if (c == '"') {
      read_literal();
    } else if (c == '[') {
      read_class();
    } else if (c == '<') {
      read_token();
    } else if (is_word(c)) {
      const char* from = at_;
      while (is_word(*at_)) at_++;
      longest_name_ = std::max(longest_name_, static_cast<uint64_t>(at_ - from));
      add_symbol(1);
    } else if (c == '{') {
      read_repetition();
    } else {
      at_++;
      switch (c) {
        case '(': open(); break;
        case ')': close(); break;
        case '|': end_sequence(); break;
        case '=': end_sequence(); break;  // of ::=
        case '.': add_symbol(1); break;
        case '*': repeat(0, kNoMaximum); break;
        case '+': repeat(1, kNoMaximum); break;
        case '?': repeat(0, 1); break;
        default: break;
      }
    }
  }

  void add_symbol(uint64_t elements) {
    last_symbols_.back() = elements;
    size_.elements += elements;
  }

  /// Counts the element ALT between alternatives, or END of the rule that `::=` begins.
  void end_sequence() {
    last_symbols_.back() = 0;
    size_.elements++;
  }

  void open() {
    size_.generated_rules++;
    size_.elements++;  // END of the bracket's own rule
    last_symbols_.push_back(0);
    if (last_symbols_.size() > kMaxDepth + 1)
      reason_ = "brackets are nested more than " + std::to_string(kMaxDepth) + " deep";
  }

  void close() {
    if (last_symbols_.size() == 1) return;
    last_symbols_.pop_back();
    add_symbol(1);
  }

  void read_literal() {
    uint64_t characters = 0;
    for (at_++; *at_ != '\0' && *at_ != '"'; characters++) at_ = skip_character(at_);
    at_ = skip_bytes(at_, 1);
    add_symbol(characters);
  }

  void read_class() {
    uint64_t characters = 0;
    at_++;
    if (*at_ == '^') at_++;
    while (*at_ != '\0' && *at_ != ']') {
      at_ = skip_character(at_);
      characters++;
      if (*at_ != '-' || at_[1] == ']') continue;
      at_ = skip_character(at_ + 1);
      characters++;
    }
    at_ = skip_bytes(at_, 1);
    add_symbol(characters);
  }

  void read_token() {
    at_++;
    if (*at_ == '[') {
      uint64_t token = 0;
      at_ = read_number(at_ + 1, token);
      if (token > kMaxTokenId) {
        reason_ = "the number of a token is larger than " + std::to_string(kMaxTokenId);
      }
    } else {
      while (*at_ != '\0' && *at_ != '>') at_++;
      at_ = skip_bytes(at_, 1);
    }
    add_symbol(1);
  }

  void read_repetition() {
    uint64_t minimum = 0, maximum = 0;
    at_ = skip_grammar_space(at_ + 1);
    if (!is_digit(*at_)) return;
    at_ = skip_grammar_space(read_number(at_, minimum));
    maximum = minimum;
    if (*at_ == ',') {
      maximum = kNoMaximum;
      at_ = skip_grammar_space(at_ + 1);
      if (is_digit(*at_)) at_ = skip_grammar_space(read_number(at_, maximum));
    }
    if (*at_ != '}') return;
    at_++;
    reason_ = why_repetition_refused(minimum, maximum);
    if (reason_.empty()) repeat(minimum, maximum);
  }

  /// S{m,n} becomes m times S and a chain of n - m rules, each of which has a copy of S; S{m,} becomes m times S and
  /// one rule. No number here overflows: S has at most kMaxElements, and both counts are at most kMaxRepetitions.
  void repeat(uint64_t minimum, uint64_t maximum) {
    const uint64_t symbol = last_symbols_.back();
    if (symbol == 0) return;  // the parser refuses a repetition of nothing
    const uint64_t optional = maximum == kNoMaximum ? 1 : maximum - minimum;
    const uint64_t repeated = symbol * minimum + (optional > 0 ? 1 : 0);
    size_.generated_rules += optional;
    size_.elements += optional * (symbol + 3);  // plus a reference to the next rule, ALT and END
    size_.elements += repeated;                 // S itself stays counted, even where the parser takes it away again
    last_symbols_.back() = repeated;
  }

  void check_size() {
    if (size_.generated_rules > kMaxGrammarRules) {
      reason_ = "it has more than " + std::to_string(kMaxGrammarRules) + " rules";
    } else if (size_.elements > kMaxElements) {
      reason_ = "it has more than " + std::to_string(kMaxElements) + " elements, repetitions written out";
    } else if (size_.generated_rules * (longest_name_ + kNameSuffixBytes) > kMaxNameBytes) {
      reason_ = "the names of its rules are too long";
    }
  }

  const char* at_;
  std::vector<uint64_t> last_symbols_;  // elements of the last symbol (0: none), in the rule and in each open bracket
  uint64_t longest_name_ = 0;           // bytes of the longest name, which a generated rule may take over
  GrammarSize size_;
  std::string reason_;
};

}  // namespace

const char* skip_grammar_space(const char* at) {
  while (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n' || *at == '#') {
    if (*at++ == '#') {
      while (*at != '\0' && *at != '\n' && *at != '\r') at++;
    }
  }
  return at;
}

const char* read_number(const char* at, uint64_t& number) {
  for (number = 0; is_digit(*at); at++) {
    const auto digit = static_cast<uint64_t>(*at - '0');
    number = number > (kMaxNumber - digit) / 10 ? kMaxNumber : number * 10 + digit;
  }
  return at;
}

std::string why_repetition_refused(uint64_t minimum, uint64_t maximum) {
  const bool limited = maximum != kNoMaximum;
  const std::string counts =
      "a repetition {" + std::to_string(minimum) + "," + (limited ? std::to_string(maximum) : "") + "} ";
  if (minimum > kMaxRepetitions || (limited && maximum > kMaxRepetitions)) {
    return counts + "counts more than " + std::to_string(kMaxRepetitions);
  }
  if (maximum < minimum) return counts + "has a maximum below its minimum";
  return "";
}

std::string why_bounds_refused(const std::string& grammar, GrammarSize* size) {
  Expansion expansion(grammar.c_str());
  std::string reason = expansion.why_refused();
  if (size != nullptr) *size = expansion.size();
  return reason;
}

}  // namespace cllm
