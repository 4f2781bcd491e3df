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
  int passes = 1;            // per optimiser step: gradients are added up
  int block = 16;            // n
  double ar_epochs = 0;      // times that each example is seen in plain rows before
  double epochs = 1;         // times that each enters the pool
  double clean_share = 0.5;  // of a row for clean text, the rest for blocks
  int pool = 48;             // rows in training at a time
  int row_steps = 6;         // steps that a row stays
  BlockLoss loss;
  AdamW adam;  // learning_rate: the peak of the consistency phase
  float ar_learning_rate = 0;
  int warmup = 20;  // steps, of each phase
  uint64_t seed = 0;
  int threads = 1;          // of the CPU
  bool gpu = false;         // the first of this binary, else the CPU
  std::string fingerprint;  // of base, data and recipe: a checkpoint of another is refused
};

struct StepReport {
  int64_t step = 0;  // done, of both phases together
  bool consistency = false;
  double answer_loss = 0;           // mean cross entropy of clean answer tokens
  double block_loss = 0;            // weighted mean cross entropy of block tokens against the answer
  double tokens_per_iteration = 0;  // accepted drafts + 1 of the blocks in training
  int64_t tokens = 0;               // that went through the model, padding not counted
  double gradient_norm = 0;
  double learning_rate = 0;
};

/// Trains a model on examples: first plain rows with the AR loss, then rows with draft blocks and both losses. All
/// state that decides what comes next is in a checkpoint. Not thread-safe; one call at a time.
class Trainer {
 public:
  Trainer(TrainOptions options, std::vector<Example> examples);

  /// Bytes that load() will take, known without taking them.
  size_t bytes() const;
  const Weights& weights() const { return weights_; }
  int64_t steps() const { return ar_steps_ + consistency_steps_; }
  int64_t ar_steps() const { return ar_steps_; }
  int64_t step() const { return step_; }

  /// Reads the base. `stop` is asked before passes, and on the CPU during them, on their thread: when it says true, the
  /// step ends with Error CLLM_ABORTED, and the trainer is of no more use.
  void load(std::function<bool()> stop);
  /// One optimiser step. Throws Error CLLM_TRAINING_FAILED where the loss is no longer finite.
  StepReport advance();
  void save_checkpoint(const std::string& path) const;
  /// Throws Error CLLM_INVALID_DATA for a checkpoint of another run or a damaged one.
  void load_checkpoint(const std::string& path);
  void write(const std::string& path, ggml_type type,
             const std::vector<std::pair<std::string, std::string>>& notes) const;

 private:
  struct Pass {
    PassLabels labels;
    std::vector<RowState*> rows;
  };
  PackLimits limits(bool consistency) const;
  int64_t count_steps(bool consistency) const;
  PackedRow next_row(bool consistency);
  /// The next row of the stream, with as many blocks as it has room for.
  void enter(RowState& state);
  void advance_rows(const Pass& pass, const PassResult& result, StepReport& report);
  double rate() const;

  TrainOptions options_;
  std::function<bool()> stop_;
  std::vector<Example> examples_;
  Packer packer_;
  BackendPointer backend_;  // destroyed after what lives on it
  Weights weights_;
  std::unique_ptr<TrainingGraph> graph_;
  std::unique_ptr<Optimizer> optimizer_;
  int64_t ar_steps_ = 0, consistency_steps_ = 0;

  // State.
  int64_t step_ = 0;
  uint64_t draws_ = 0;
  int64_t row_cursor_ = 0;  // rows taken from the stream of the phase
  std::vector<RowState> pool_;
  size_t pool_cursor_ = 0;

  PassInput input_;  // of the pass at hand; its memory is used again

  // The epoch whose rows are at hand.
  int64_t epoch_ = -1;
  bool epoch_consistency_ = false;
  int64_t epoch_begin_ = 0;  // row_cursor_ of its first row
  std::vector<PackedRow> epoch_rows_;
};

}  // namespace cllm
