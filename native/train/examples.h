#pragma once

#include <cstdint>
#include <vector>

namespace cllm {

/// A prompt and its answer, both as tokens. The answer ends with the end-of-generation token.
struct Example {
  std::vector<int32_t> prompt;
  std::vector<int32_t> answer;
  /// Tokens that a pass reads: all but the last, which is only a target.
  int64_t size() const { return static_cast<int64_t>(prompt.size() + answer.size()) - 1; }
};

/// An example in a packed row. Examples of one group share the first `prefix` tokens of their prompts. The row holds
/// these tokens once, in front of the group's first example.
struct Segment {
  int32_t example;
  int32_t prefix;
  bool leads;  // the example is the first of its group in this row
};

using PackedRow = std::vector<Segment>;

struct PackLimits {
  int length;  // tokens of clean text
  int labels;  // answer tokens
};

/// Packs examples into the rows of an epoch. Examples whose prompts have a long common prefix (a table's schema, a
/// system message) form groups. Groups and their members are shuffled by (seed, epoch), then rows are filled one after
/// the other and shuffled too. An example that alone exceeds the limits gets a row of its own.
class Packer {
 public:
  explicit Packer(const std::vector<Example>& examples);
  std::vector<PackedRow> epoch(const PackLimits& limits, uint64_t seed, uint64_t epoch) const;
  const std::vector<Example>& examples() const { return examples_; }

 private:
  struct Group {
    int32_t prefix;  // tokens that all members share; every prompt is longer
    std::vector<int32_t> members;
  };
  const std::vector<Example>& examples_;
  std::vector<Group> groups_;
};

/// A hash of (seed, a, b). Everything random in training is a function of its place, so that a resumed run draws what
/// an unbroken one would have drawn.
uint64_t hash_of(uint64_t seed, uint64_t a, uint64_t b);

}  // namespace cllm
