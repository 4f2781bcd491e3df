#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "ggml-cpu.h"

namespace cllm {

namespace {

BackendPointer make_backend(const TrainOptions& options) {
  if (!options.gpu) {
    BackendPointer backend(ggml_backend_cpu_init());
    if (!backend) throw Error("CLLM_OUT_OF_MEMORY", "Not enough memory for ggml's CPU backend");
    ggml_backend_cpu_set_n_threads(backend.get(), options.threads);
    return backend;
  }
  BackendPointer backend(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_GPU, nullptr));
  if (!backend) backend.reset(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_IGPU, nullptr));
  if (!backend) throw Error("CLLM_BACKEND_UNAVAILABLE", "There is no GPU to train on");
  return backend;
}

}  // namespace

Trainer::Trainer(TrainOptions options, std::vector<Example> examples)
    : options_(std::move(options)),
      examples_(std::move(examples)),
      packer_(examples_),
      backend_(make_backend(options_)),
      weights_(options_.base, options_.weights) {
  const int labels = options_.pass.labels / options_.pass.rows - options_.block;
  for (size_t i = 0; i < examples_.size(); i++) {
    const Example& example = examples_[i];
    const auto in_vocabulary = [&](int32_t token) { return token >= 0 && token < weights_.architecture().vocab; };
    for (const auto* tokens : {&example.prompt, &example.answer}) {
      if (!std::all_of(tokens->begin(), tokens->end(), in_vocabulary)) {
        throw Error("CLLM_INVALID_DATA", "Example " + std::to_string(i) + " has a token that the model does not have");
      }
    }
    if (example.prompt.empty() || example.answer.empty() || example.size() > options_.pass.length - options_.block ||
        static_cast<int64_t>(example.answer.size()) > labels) {
      throw Error("CLLM_INVALID_DATA", "Example " + std::to_string(i) + " does not fit into a training row");
    }
  }
  graph_ = std::make_unique<TrainingGraph>(weights_, backend_.get(), options_.pass);
  optimizer_ = std::make_unique<Optimizer>(weights_, backend_.get());
  ar_steps_ = options_.ar_epochs > 0 ? count_steps(false) : 0;
  consistency_steps_ = options_.epochs > 0 ? count_steps(true) : 0;
}

size_t Trainer::bytes() const {
  // Reading the weights takes the largest matrix as it is in the file, in floats, and transposed. Later the squares of
  // gradients take this memory.
  size_t largest_matrix = 0;
  for (const auto& p : weights_.all()) {
    largest_matrix = std::max<size_t>(largest_matrix, static_cast<size_t>(p.in * p.out) * sizeof(float));
  }
  const size_t scratch = std::max(3 * largest_matrix, Optimizer::kSquareBytes);
  const TrainingShape& pass = options_.pass;
  const size_t mask = static_cast<size_t>(pass.rows) * pass.length * pass.length * sizeof(float);
  // ggml-cuda rounds second operands into memory of its own; the gradients of the logits are the largest operand.
  const bool rounds = options_.gpu && options_.weights.product != GGML_TYPE_F32;
  const size_t operand = rounds ? static_cast<size_t>(pass.labels) * weights_.architecture().vocab * 2 : 0;
  return weights_.bytes() + graph_->bytes() + scratch + mask + operand;
}

PackLimits Trainer::limits(bool consistency) const {
  const TrainingShape& pass = options_.pass;
  // The rows of a pass share its labels equally.
  const int labels = pass.labels / pass.rows;
  if (!consistency) return {pass.length, labels};
  const int length = std::min(pass.length - options_.block, static_cast<int>(pass.length * options_.clean_share));
  return {length, std::max(1, std::min(labels - options_.block, static_cast<int>(labels * options_.clean_share)))};
}

int64_t Trainer::count_steps(bool consistency) const {
  const auto rows = static_cast<double>(packer_.epoch(limits(consistency), options_.seed, 0).size());
  const double per_step = static_cast<double>(options_.pass.rows) * options_.passes;
  const double uses = consistency ? options_.epochs * options_.row_steps : options_.ar_epochs;
  return static_cast<int64_t>(std::ceil(rows * uses / per_step));
}

void Trainer::load(std::function<bool()> stop) {
  stop_ = std::move(stop);
  weights_.load(backend_.get(), options_.seed);
  graph_->allocate();
  // A pass on a GPU cannot be broken off, and is short.
  if (!is_cpu(backend_.get())) return;
  ggml_backend_cpu_set_abort_callback(
      backend_.get(), [](void* trainer) { return static_cast<Trainer*>(trainer)->stop_(); }, this);
}

PackedRow Trainer::next_row(bool consistency) {
  if (epoch_ < 0 || epoch_consistency_ != consistency) {
    epoch_ = 0;
    epoch_begin_ = 0;
    epoch_consistency_ = consistency;
    epoch_rows_ = packer_.epoch(limits(consistency), options_.seed, 0);
  }
  while (row_cursor_ - epoch_begin_ >= static_cast<int64_t>(epoch_rows_.size())) {
    epoch_begin_ += static_cast<int64_t>(epoch_rows_.size());
    epoch_++;
    epoch_rows_ = packer_.epoch(limits(consistency), options_.seed, static_cast<uint64_t>(epoch_));
  }
  return epoch_rows_[row_cursor_++ - epoch_begin_];
}

void Trainer::replace_row(RowState& state) {
  state = RowState{next_row(true), {}, 0};
  const PackLimits clean = row_sizes(examples_, state.segments);
  const int by_length = (options_.pass.length - clean.length) / options_.block;
  const int by_labels = (options_.pass.labels / options_.pass.rows - clean.labels) / options_.block;
  Draws draws(options_.seed, draws_);
  for (int i = 0; i < std::min(by_length, by_labels); i++) {
    state.blocks.push_back(first_block(examples_, state.segments, options_.block, draws));
  }
  draws_ = draws.count();
}

RowState& Trainer::next_pool_row() {
  const auto size = static_cast<size_t>(std::max(options_.pool, options_.pass.rows));
  if (pool_.size() < size) pool_.resize(size);
  RowState& state = pool_[pool_cursor_];
  pool_cursor_ = (pool_cursor_ + 1) % size;
  const bool empty = state.segments.empty();
  if (empty || state.age >= options_.row_steps) replace_row(state);
  // The first rows begin at random ages, so that the pool has rows of all ages from the start.
  if (empty) state.age = static_cast<int32_t>(hash_of(options_.seed, 3, pool_cursor_) % options_.row_steps);
  return state;
}

double Trainer::learning_rate() const {
  const bool consistency = step_ >= ar_steps_;
  const double peak = consistency ? options_.adam.learning_rate : options_.ar_learning_rate;
  const auto done = static_cast<double>(consistency ? step_ - ar_steps_ : step_);
  const auto all = static_cast<double>(consistency ? consistency_steps_ : ar_steps_);
  const double warm = std::min(1.0, (done + 1) / std::max(1.0, std::min<double>(options_.warmup, all / 10)));
  return peak * warm * 0.5 * (1 + std::cos(M_PI * done / all));
}

StepReport Trainer::advance() {
  const bool consistency = step_ >= ar_steps_;
  if (step_ == ar_steps_) row_cursor_ = 0;  // the second phase has a stream of its own
  StepReport report{.step = step_ + 1, .consistency = consistency, .learning_rate = learning_rate()};
  optimizer_->clear_gradients();
  std::vector<RowState> plain_rows(consistency ? 0 : options_.pass.rows);
  for (int p = 0; p < options_.passes; p++) {
    if (stop_()) throw Error("CLLM_ABORTED", "Training was aborted");
    Pass pass;
    for (int r = 0; r < options_.pass.rows; r++) {
      if (!consistency) plain_rows[r] = RowState{next_row(false), {}, 0};
      pass.rows.push_back(consistency ? &next_pool_row() : &plain_rows[r]);
    }
    pass.labels = lay_out_pass(examples_, pass.rows, options_.pass, options_.loss, input_);
    const auto share = static_cast<float>(1.0 / options_.passes);
    for (auto& weight : input_.hard) weight *= share;
    for (auto& weight : input_.soft) weight *= share;
    const LabelResults result = graph_->run(input_);
    advance_rows(pass, result, report);
    report.tokens += pass.labels.token_count;
  }
  AdamW adam = options_.adam;
  adam.learning_rate = static_cast<float>(report.learning_rate);
  report.gradient_norm = optimizer_->step(adam, step_ + 1);
  const auto passes = static_cast<double>(options_.passes);
  report.answer_loss /= passes;
  report.block_loss /= passes;
  report.tokens_per_iteration /= passes;
  if (!std::isfinite(report.gradient_norm) || !std::isfinite(report.answer_loss + report.block_loss)) {
    throw Error("CLLM_TRAINING_FAILED", "The loss is no longer a finite number at step " + std::to_string(step_ + 1) +
                                            ": use a smaller learning rate");
  }
  step_++;
  return report;
}

void Trainer::advance_rows(const Pass& pass, const LabelResults& result, StepReport& report) {
  double answers = 0, blocks = 0, answer_loss = 0, block_loss = 0, emitted = 0, advanced = 0;
  const int n = options_.block;
  std::vector<std::vector<int32_t>> choices(pass.rows.size());
  for (size_t r = 0; r < pass.rows.size(); r++) choices[r].assign(pass.rows[r]->blocks.size() * n, -1);
  for (size_t i = 0; i < pass.labels.entries.size(); i++) {
    const auto& entry = pass.labels.entries[i];
    const double loss = -std::log(std::max(result.probability[i], 1e-30f));
    if (!std::isfinite(result.probability[i])) answer_loss = NAN;
    if (entry.block < 0) {
      answers += 1;
      answer_loss += loss;
      continue;
    }
    const double weight = std::pow(options_.loss.decay, entry.offset);
    blocks += weight;
    block_loss += weight * loss;
    choices[entry.row][static_cast<size_t>(entry.block) * n + entry.offset] = result.choice[i];
  }
  report.answer_loss += answer_loss / std::max(1.0, answers);
  report.block_loss += block_loss / std::max(1.0, blocks);
  Draws draws(options_.seed, draws_);
  for (size_t r = 0; r < pass.rows.size(); r++) {
    RowState& row = *pass.rows[r];
    row.age++;
    for (size_t b = 0; b < row.blocks.size(); b++) {
      Block& block = row.blocks[b];
      int accepted = 0;
      const Example& example = examples_[row.segments[block.segment].example];
      const bool unfinished = advance_block(example, block, choices[r].data() + b * n, accepted, draws);
      emitted += accepted + 1;
      advanced += 1;
      if (!unfinished) block = first_block(examples_, row.segments, n, draws);
    }
  }
  draws_ = draws.count();
  report.tokens_per_iteration += emitted / std::max(1.0, advanced);
}

namespace {

std::function<void(gguf_context*)> adding(const Trainer::Notes& notes) {
  return [&notes](gguf_context* metadata) {
    for (const auto& [key, value] : notes) gguf_set_val_str(metadata, key.c_str(), value.c_str());
  };
}

}  // namespace

void Trainer::write(const std::string& path, ggml_type type, const Notes& notes) const {
  weights_.write(path, type, adding(notes));
}

void Trainer::write_adapters(const std::string& path, const Notes& notes) const {
  weights_.write_adapters(path, adding(notes));
}

}  // namespace cllm
