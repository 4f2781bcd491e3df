#include "train/trajectory.h"

#include <algorithm>
#include <cmath>

namespace cllm {

namespace {

int32_t random_prompt_token(const Example& example, Draws& draws) {
  return example.prompt[draws.next(example.prompt.size())];
}

/// The token before answer[start].
int32_t token_before(const Example& example, int32_t start) {
  return start > 0 ? example.answer[start - 1] : example.prompt.back();
}

/// One row of a pass while it is being filled.
class RowLayout {
 public:
  RowLayout(PassInput& pass, PassLabels& labels, int32_t row, int length)
      : pass_(pass), labels_(labels), row_(row), length_(length) {}

  int64_t cursor() const { return cursor_; }

  /// Appends a token and returns its place in the row.
  int64_t add_token(int32_t id, int64_t position) {
    pass_.tokens[base() + cursor_] = id;
    pass_.positions[base() + cursor_] = static_cast<int32_t>(position);
    return cursor_++;
  }

  /// Lets the token at `place` attend to the places [begin, end).
  void attend(int64_t place, int64_t begin, int64_t end) {
    float* row = pass_.mask.data() + (base() + place) * length_;
    std::fill(row + begin, row + end, 0.0f);
  }

  /// Gives the token at `place` a label and returns the label's index.
  int32_t add_label(int64_t place, int32_t target, int32_t block, int32_t offset) {
    pass_.at.push_back(static_cast<int32_t>(base() + place));
    pass_.target.push_back(target);
    pass_.hard.push_back(0);
    pass_.soft.push_back(0);
    pass_.soft_source.push_back(0);
    labels_.entries.push_back({row_, block, offset});
    return static_cast<int32_t>(pass_.at.size()) - 1;
  }

 private:
  int64_t base() const { return static_cast<int64_t>(row_) * length_; }

  PassInput& pass_;
  PassLabels& labels_;
  int32_t row_;
  int64_t length_;
  int64_t cursor_ = 0;
};

struct PlacedSegment {
  int64_t prefix_begin, begin;         // places in the row of the group's prefix and of the segment's further tokens
  std::vector<int32_t> answer_labels;  // label of each answer token
};

PlacedSegment place_segment(const Example& example, const Segment& segment, int64_t prefix_begin, RowLayout& layout) {
  PlacedSegment placed{prefix_begin, layout.cursor(), {}};
  const auto prompt = static_cast<int64_t>(example.prompt.size());
  const int64_t inputs = example.size();
  for (int64_t i = segment.prefix; i < inputs; i++) {
    const int64_t at = layout.add_token(i < prompt ? example.prompt[i] : example.answer[i - prompt], i);
    layout.attend(at, prefix_begin, prefix_begin + segment.prefix);
    layout.attend(at, placed.begin, at + 1);
    if (i >= prompt - 1) {
      const auto a = static_cast<int32_t>(i - prompt + 1);
      placed.answer_labels.push_back(layout.add_label(at, example.answer[a], -1, a));
    }
  }
  return placed;
}

void place_block(const Example& example, const Segment& segment, const PlacedSegment& placed, const Block& block,
                 int32_t index, RowLayout& layout, PassInput& pass) {
  const int64_t first = static_cast<int64_t>(example.prompt.size()) + block.start - 1;  // position of tokens[0]
  const int64_t begin = layout.cursor();
  for (int32_t j = 0; j < static_cast<int32_t>(block.tokens.size()); j++) {
    const int64_t at = layout.add_token(block.tokens[j], first + j);
    layout.attend(at, placed.prefix_begin, placed.prefix_begin + segment.prefix);
    // The block sees the segment in front of tokens[0]; tokens[0] itself is in the block.
    layout.attend(at, placed.begin, placed.begin + std::max<int64_t>(0, first - segment.prefix));
    layout.attend(at, begin, at + 1);
    const int32_t a = block.start + j;
    if (a < static_cast<int32_t>(example.answer.size())) {
      const int32_t label = layout.add_label(at, example.answer[a], index, j);
      pass.soft_source[label] = placed.answer_labels[a];
    }
  }
}

/// Sets the weights of all labels, so that each of the two losses is a mean over its labels.
void weigh(const PassLabels& labels, const BlockLoss& loss, PassInput& pass) {
  double answers = 0, blocks = 0;
  const auto weight = [&](const PassLabels::Entry& entry) { return std::pow(loss.decay, entry.offset); };
  for (const auto& entry : labels.entries) (entry.block < 0 ? answers : blocks) += entry.block < 0 ? 1 : weight(entry);
  for (size_t i = 0; i < labels.entries.size(); i++) {
    const auto& entry = labels.entries[i];
    if (entry.block < 0) {
      pass.hard[i] = static_cast<float>(loss.answers / answers);
      continue;
    }
    const auto share = static_cast<float>(loss.blocks * weight(entry) / blocks);
    pass.hard[i] = share * (1 - loss.soft);
    pass.soft[i] = share * loss.soft;
  }
}

}  // namespace

Block first_block(const std::vector<Example>& examples, const PackedRow& row, int n, Draws& draws) {
  const auto segment = static_cast<int32_t>(draws.next(row.size()));
  const Example& example = examples[row[segment].example];
  Block block{segment, 0, std::vector<int32_t>(n)};
  if (draws.next(2) == 1) block.start = static_cast<int32_t>(draws.next(example.answer.size()));
  block.tokens[0] = token_before(example, block.start);
  for (int j = 1; j < n; j++) block.tokens[j] = random_prompt_token(example, draws);
  return block;
}

bool advance_block(const Example& example, Block& block, const int32_t* choices, int& accepted, Draws& draws) {
  const auto n = static_cast<int32_t>(block.tokens.size());
  const auto size = static_cast<int32_t>(example.answer.size());
  int32_t m = 0;
  while (m + 1 < n && block.start + m + 1 < size && choices[m] == example.answer[block.start + m] &&
         block.tokens[m + 1] == choices[m]) {
    m++;
  }
  accepted = m;
  block.start += m + 1;
  if (block.start >= size) return false;
  for (int32_t j = 1; j < n; j++) {
    const bool chosen = m + j < n && choices[m + j] >= 0;
    block.tokens[j] = chosen ? choices[m + j] : random_prompt_token(example, draws);
  }
  block.tokens[0] = token_before(example, block.start);
  return true;
}

PassLabels lay_out_pass(const std::vector<Example>& examples, const std::vector<RowState*>& rows,
                        const TrainingShape& shape, const BlockLoss& loss, PassInput& pass) {
  const int64_t tokens = static_cast<int64_t>(shape.rows) * shape.length;
  for (auto* labels : {&pass.at, &pass.target, &pass.soft_source}) labels->clear();
  for (auto* weights : {&pass.hard, &pass.soft}) weights->clear();
  pass.tokens.assign(tokens, 0);
  pass.positions.assign(tokens, 0);
  pass.mask.assign(tokens * shape.length, -INFINITY);
  // Every token attends to itself, padding too: a softmax over nothing would be NaN.
  for (int64_t t = 0; t < tokens; t++) pass.mask[t * shape.length + t % shape.length] = 0;
  PassLabels labels;
  for (size_t r = 0; r < rows.size(); r++) {
    const RowState& row = *rows[r];
    RowLayout layout(pass, labels, static_cast<int32_t>(r), shape.length);
    std::vector<PlacedSegment> placed;
    int64_t prefix_begin = 0;
    for (const Segment& segment : row.segments) {
      const Example& example = examples[segment.example];
      if (segment.leads) {
        prefix_begin = layout.cursor();
        for (int32_t i = 0; i < segment.prefix; i++) {
          const int64_t at = layout.add_token(example.prompt[i], i);
          layout.attend(at, prefix_begin, at + 1);
        }
      }
      placed.push_back(place_segment(example, segment, prefix_begin, layout));
    }
    for (size_t b = 0; b < row.blocks.size(); b++) {
      const Block& block = row.blocks[b];
      const Segment& segment = row.segments[block.segment];
      place_block(examples[segment.example], segment, placed[block.segment], block, static_cast<int32_t>(b), layout,
                  pass);
    }
    labels.token_count += layout.cursor();
  }
  weigh(labels, loss, pass);
  return labels;
}

PackLimits row_sizes(const std::vector<Example>& examples, const PackedRow& row) {
  PackLimits sizes{0, 0};
  for (const Segment& segment : row) {
    const Example& example = examples[segment.example];
    sizes.length += static_cast<int>(example.size()) - (segment.leads ? 0 : segment.prefix);
    sizes.labels += static_cast<int>(example.answer.size());
  }
  return sizes;
}

}  // namespace cllm
