#pragma once

#include <cstdint>
#include <vector>

#include "train/examples.h"
#include "train/graph.h"

namespace cllm {

/// A block as Jacobi decoding visits it: `tokens[0]` is confirmed, the token before answer[start]; the rest is the
/// draft.
struct Block {
  int32_t segment;              // of its row
  int32_t start;                // answer tokens that are confirmed, 0 to answer.size() - 1
  std::vector<int32_t> tokens;  // [n]
};

/// A packed row on its way through training: it stays for some steps, while its blocks advance as in decoding.
struct RowState {
  PackedRow segments;
  std::vector<Block> blocks;
  int32_t age = 0;
};

struct BlockLoss {
  float answers = 1;    // weight of the AR loss on the clean answers
  float blocks = 1;     // weight of the consistency loss
  float soft = 0.5f;    // its share against the clean positions' distribution; the rest against the token itself
  float decay = 0.85f;  // of the weight from one block position to the next: far ones cannot be known yet
};

/// Where a pass's labels came from.
struct PassLabels {
  struct Entry {
    int32_t row, block;  // block: -1 for a clean answer position
    int32_t offset;      // position in the block, or in the answer
  };
  std::vector<Entry> entries;
  int64_t used = 0;  // tokens that are no padding
};

/// Random draft tokens and places, in the order they are drawn.
class Draws {
 public:
  Draws(uint64_t seed, uint64_t count) : seed_(seed), count_(count) {}
  uint64_t next(uint64_t below) { return mixed(seed_, 0xD2A75, count_++) % below; }
  uint64_t count() const { return count_; }

 private:
  uint64_t seed_, count_;
};

/// A first block of n tokens somewhere in the row: at the beginning of an answer, where decoding begins, half the time.
/// Drafts are random prompt tokens, as in decoding (native/kernels/draft.h).
Block first_block(const std::vector<Example>& examples, const PackedRow& row, int n, Draws& draws);

/// The next state of a block after a pass that chose `choices` [n] (-1 beyond the answer's end): the accepted drafts
/// are skipped, the choices shift to the front, the tail is random prompt tokens again (CLLM, arXiv 2403.00835,
/// algorithm 1). The confirmed token is the answer's own, so that a trajectory stays on its answer. False: the answer
/// is complete.
bool advance_block(const Example& example, Block& block, const int32_t* choices, int& accepted, Draws& draws);

/// Lays rows out as one pass. The clean text of a row comes first, then its blocks; a mask keeps segments and blocks
/// apart: a block sees its segment's prefix, the segment up to its start, and itself causally.
PassLabels lay_out_pass(const std::vector<Example>& examples, const std::vector<RowState*>& rows,
                        const TrainingShape& shape, const BlockLoss& loss, PassInput& pass);

/// Tokens of a row's clean text, and its answer tokens.
PackLimits row_sizes(const std::vector<Example>& examples, const PackedRow& row);

}  // namespace cllm
