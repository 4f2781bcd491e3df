#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "train/optimizer.h"
#include "train/trajectory.h"

namespace cllm {

struct TrainOptions {
  std::string base;
  WeightOptions weights;
  TrainingShape pass;        // rows and tokens of one forward and backward pass
  int passes = 1;            // passes per optimiser step, whose gradients are added up
  int block = 16;            // tokens of a block, n
  double ar_epochs = 0;      // times that each example is seen in plain rows, in the AR phase
  double epochs = 1;         // times that each example enters the pool, in the consistency phase
  double clean_share = 0.5;  // share of a row for clean text; the rest is for blocks
  int pool = 48;             // rows in training at a time
  int row_steps = 6;         // steps that a row stays in the pool
  BlockLoss loss;
  AdamW adam;                  // learning_rate: the peak of the consistency phase
  float ar_learning_rate = 0;  // the peak of the AR phase
  int warmup = 20;             // steps at the beginning of each phase
  uint64_t seed = 0;
  int threads = 1;          // CPU threads
  bool gpu = false;         // true: the first GPU of this binary; false: the CPU
  std::string fingerprint;  // identifies base, data and recipe: a checkpoint with another one is refused
};

struct StepReport {
  int64_t step = 0;  // steps done, of both phases together
  bool consistency = false;
  double answer_loss = 0;           // mean cross entropy of clean answer tokens
  double block_loss = 0;            // weighted mean cross entropy of block tokens against the answer
  double tokens_per_iteration = 0;  // mean of accepted drafts + 1 over the blocks in training
  int64_t tokens = 0;               // tokens that went through the model, without padding
  double gradient_norm = 0;         // before clipping
  double learning_rate = 0;
};

/// Trains a model on examples: first plain rows with the AR loss, then rows with draft blocks and both losses. A
/// checkpoint holds all state that decides what comes next. Not thread-safe: one call at a time.
class Trainer {
 public:
  Trainer(TrainOptions options, std::vector<Example> examples);

  /// Bytes that load() will take. They are known before any memory is taken.
  size_t bytes() const;
  const Weights& weights() const { return weights_; }
  int64_t steps() const { return ar_steps_ + consistency_steps_; }
  int64_t ar_steps() const { return ar_steps_; }
  int64_t step() const { return step_; }

  /// Reads the base. `stop` is asked before each pass, and on the CPU during it, on the pass's thread. When it returns
  /// true, the step ends with Error CLLM_ABORTED and the trainer cannot be used any more.
  void load(std::function<bool()> stop);
  /// One optimiser step. Throws Error CLLM_TRAINING_FAILED where the loss is no longer finite.
  StepReport advance();
  void save_checkpoint(const std::string& path) const;
  /// Throws Error CLLM_INVALID_DATA for a checkpoint that is damaged or belongs to another run.
  void load_checkpoint(const std::string& path);
  using Notes = std::vector<std::pair<std::string, std::string>>;
  void write(const std::string& path, ggml_type type, const Notes& notes) const;
  void write_adapters(const std::string& path, const Notes& notes) const;

 private:
  struct Pass {
    PassLabels labels;
    std::vector<RowState*> rows;
  };
  PackLimits limits(bool consistency) const;
  int64_t count_steps(bool consistency) const;
  PackedRow next_row(bool consistency);
  /// Replaces a row of the pool by the next row of the stream, with as many blocks as it has room for.
  void replace_row(RowState& state);
  /// The next row of the pool, replaced where it has stayed long enough.
  RowState& next_pool_row();
  void advance_rows(const Pass& pass, const LabelResults& result, StepReport& report);
  double learning_rate() const;

  TrainOptions options_;
  std::function<bool()> stop_;
  std::vector<Example> examples_;
  Packer packer_;
  BackendPointer backend_;  // before the members that live on it, so that it is destroyed after them
  Weights weights_;
  std::unique_ptr<TrainingGraph> graph_;
  std::unique_ptr<Optimizer> optimizer_;
  int64_t ar_steps_ = 0, consistency_steps_ = 0;

  // The state that a checkpoint holds, besides the weights.
  int64_t step_ = 0;
  uint64_t draws_ = 0;
  int64_t row_cursor_ = 0;  // rows taken from the phase's stream
  std::vector<RowState> pool_;
  size_t pool_cursor_ = 0;

  PassInput input_;  // a member so that passes use the same memory

  // The epoch that next_row() takes rows from, -1 for none yet.
  int64_t epoch_ = -1;
  bool epoch_consistency_ = false;
  int64_t epoch_begin_ = 0;  // row_cursor_ of the epoch's first row
  std::vector<PackedRow> epoch_rows_;
};

}  // namespace cllm
