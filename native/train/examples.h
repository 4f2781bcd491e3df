#pragma once

#include <cstdint>
#include <vector>

namespace cllm {

/// One thing to learn: a prompt and its answer, both as tokens; the answer ends with the end-of-generation token.
struct Example {
  std::vector<int32_t> prompt;
  std::vector<int32_t> answer;
  int64_t size() const { return static_cast<int64_t>(prompt.size() + answer.size()) - 1; }  // as input of a pass
};

/// An example's place in a packed row. Examples of one group share the first `prefix` tokens of their prompts, which
/// lie in the row once, in front of the group's first example.
struct Segment {
  int32_t example;
  int32_t prefix;
  bool leads;  // the first of its group in this row
};

using PackedRow = std::vector<Segment>;

struct PackLimits {
  int length;  // tokens of clean text
  int labels;  // answer tokens
};

/// The rows of one epoch: groups of examples with a long common prompt prefix (a table's schema, a system message) and
/// their order are shuffled by (seed, epoch), then rows are filled one after the other, and shuffled too. An example
/// that is longer than the limits by itself gets a row by itself.
class Packer {
 public:
  explicit Packer(const std::vector<Example>& examples);
  std::vector<PackedRow> epoch(const PackLimits& limits, uint64_t seed, uint64_t epoch) const;
  const std::vector<Example>& examples() const { return examples_; }

 private:
  struct Group {
    int32_t prefix;  // common to all, and shorter than every prompt
    std::vector<int32_t> members;
  };
  const std::vector<Example>& examples_;
  std::vector<Group> groups_;
};

/// A well-mixed number from (seed, a, b): everything random in training is a function of its place, so that a resumed
/// run draws what an unbroken one would have drawn.
uint64_t mixed(uint64_t seed, uint64_t a, uint64_t b);

}  // namespace cllm
