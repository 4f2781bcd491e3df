#pragma once

// Shared by the files of cllm-resident-test (resident_test.cpp): the two sides of a comparison, and its parts.

#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "decode/host_runner.h"
#include "decode/resident_runner.h"
#include "llama-kv-cache.h"

namespace cllm {

extern int failures;

/// Counts a failure, and prints it, unless `ok`. Returns `ok`.
bool check(bool ok, const std::string& what);

using ModelPointer = std::shared_ptr<const Model>;

/// One context with its runner and lanes. Both sides of a comparison get the same calls.
struct Side {
  Context context;
  std::unique_ptr<IterationRunner> runner;
  ResidentRunner* resident = nullptr;
  std::vector<Lane> lanes;

  /// `device`, if there is one, takes the place of the resident runner's own.
  Side(const ModelPointer& model, const ContextOptions& options, bool is_resident,
       std::unique_ptr<KernelDevice> device = nullptr)
      : context(model, options), lanes(static_cast<size_t>(options.lanes), Lane(options.context_size)) {
    if (!is_resident) {
      runner = std::make_unique<HostRunner>(context);
      return;
    }
    std::string reason;
    auto created = ResidentRunner::create(context, reason, std::move(device));
    if (created == nullptr) throw Error("TEST", "Expected a resident runner but: " + reason);
    resident = created.get();
    runner = std::move(created);
  }

  // Prefills as Engine does: in chunks of 32, with a lone token padded to two.
  void prefill(int lane) {
    Lane& it = lanes[static_cast<size_t>(lane)];
    it.lost_rows(context.rows(lane));  // a recurrent state may have been lost
    while (it.needs_prefill()) {
      const auto chunk = it.prefill_tokens(32);
      const Token padded[2] = {chunk[0], chunk[0]};
      const LaneTokens pass{lane, it.written(), chunk.size() == 1 ? std::span<const Token>(padded) : chunk};
      if (context.decode({&pass, 1}, false) != PassResult::kOk) throw Error("TEST", "prefill failed");
      it.prefilled(static_cast<int>(chunk.size()));
    }
  }
  void assign(int lane, std::vector<Token> tokens) {
    Lane& it = lanes[static_cast<size_t>(lane)];
    it.assign(std::move(tokens));
    it.lost_rows(context.trim(lane, it.written()));
    prefill(lane);
  }
  LaneWork run(int lane, uint64_t seed, int64_t budget, bool stop, bool logits, const Choosing& choosing = {},
               DraftMode mode = kDraftRandom) {
    return {lane, &lanes[static_cast<size_t>(lane)], seed, budget, stop, logits, choosing, mode};
  }
};

/// Calls a function with every outcome.
struct EachOutcome : BurstObserver {
  std::function<void(const LaneOutcome&)> use;
  explicit EachOutcome(std::function<void(const LaneOutcome&)> use) : use(std::move(use)) {}
  bool took(const LaneOutcome& outcome) override {
    use(outcome);
    return true;
  }
  bool iterated() override { return true; }
};

/// The iterations of one lane that a side has reported.
struct Reported {
  std::vector<Iteration> iterations;
  std::vector<std::vector<float>> logits;
};

/// Runs up to `count` iterations of blocks of n. Returns what they reported, for every lane of the side.
std::vector<Reported> burst(Side& side, std::span<const LaneWork> runs, int n, int count, int64_t vocab, bool logits);
bool same(const Iteration& a, const Iteration& b);
std::vector<Token> random_tokens(std::mt19937& random, int count, int64_t vocab);
/// The KV caches of layers that see the whole context, and of layers with a window (null: there are none).
struct Caches {
  llama_kv_cache* full = nullptr;
  llama_kv_cache* windowed = nullptr;
};
Caches caches_of(Side& side);

/// Compares the inputs of the next pass, as the runner left them, with those of llama.cpp's set_input_* for that block.
void check_inputs(Side& side, int first, int lanes, int n, const std::string& where);
/// Runs random bursts of lanes that come and go (resident_fuzz_test.cpp).
void fuzz(const ModelPointer& model, ContextOptions options, unsigned seed, int rounds);
/// Runs bursts that a stand-in for a GPU launches as `kind` (resident_loop_test.cpp).
void loops(const ModelPointer& model, ContextOptions options, Recorded kind, const std::string& name);
void failing_loops(const ModelPointer& model, ContextOptions options);
void engine_bursts(const ModelPointer& model, ContextOptions options);
/// Plants answers in candidates, which must win (resident_candidates_test.cpp).
void candidates(const ModelPointer& model, ContextOptions options, int n, int count, const std::string& name);

}  // namespace cllm
