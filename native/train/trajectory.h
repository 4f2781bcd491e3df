#pragma once

#include <cstdint>
#include <vector>

#include "train/examples.h"
#include "train/graph.h"

namespace cllm {

/// A block as Jacobi decoding visits it: `tokens[0]` is the confirmed token before answer[start], the rest is the
/// draft.
struct Block {
  int32_t segment;              // index in its row
  int32_t start;                // confirmed tokens of the answer, 0 to answer.size() - 1
  std::vector<int32_t> tokens;  // [n]
};

/// A packed row in training. It stays for some steps, while its blocks advance as in decoding.
struct RowState {
  PackedRow segments;
  std::vector<Block> blocks;
  int32_t age = 0;  // steps
};

struct BlockLoss {
  float answers = 1;  // weight of the AR loss on the clean answers
  float blocks = 1;   // weight of the consistency loss
  float soft = 0.5f;  // share of the consistency loss against the clean positions' distribution, not the answer's token
  float decay = 0.85f;  // weight of a block position over that of the position before: far tokens cannot be known yet
};

/// Where the labels of a pass come from.
struct PassLabels {
  struct Entry {
    int32_t row, block;  // block: -1 for a clean answer position
    int32_t offset;      // position in the block, or in the answer
  };
  std::vector<Entry> entries;
  int64_t token_count = 0;  // tokens of the pass without padding
};

/// Random numbers for draft tokens and places. The n-th number depends on the seed and n alone.
class Draws {
 public:
  Draws(uint64_t seed, uint64_t count) : seed_(seed), count_(count) {}
  uint64_t next(uint64_t below) { return hash_of(seed_, 0xD2A75, count_++) % below; }
  uint64_t count() const { return count_; }

 private:
  uint64_t seed_, count_;
};

/// A first block of n tokens somewhere in the row. Half of these blocks are at the beginning of an answer, where
/// decoding begins. Drafts are random prompt tokens, as in decoding (native/kernels/draft.h).
Block first_block(const std::vector<Example>& examples, const PackedRow& row, int n, Draws& draws);

/// Moves a block on after a pass that chose `choices` [n] (-1 beyond the answer's end). It skips the accepted drafts;
/// the later choices shift to the front, and random prompt tokens fill the tail (CLLM, arXiv 2403.00835, algorithm 1).
/// The confirmed token is taken from the answer, so that a trajectory stays on it. Returns false
/// where the answer is complete.
bool advance_block(const Example& example, Block& block, const int32_t* choices, int& accepted, Draws& draws);

/// Lays rows out as one pass. The clean text of a row comes first, then its blocks. A mask keeps segments and blocks
/// apart: a block sees its segment's prefix, the segment up to the block's start, and itself causally.
PassLabels lay_out_pass(const std::vector<Example>& examples, const std::vector<RowState*>& rows,
                        const TrainingShape& shape, const BlockLoss& loss, PassInput& pass);

/// How many tokens of clean text and how many answer tokens a row has.
PackLimits row_sizes(const std::vector<Example>& examples, const PackedRow& row);

}  // namespace cllm
