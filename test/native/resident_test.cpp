// Compares the device loop with llama_decode on a real model file: ResidentRunner and HostRunner run in lockstep,
// iteration by iteration, and must agree bit by bit. Prints one line per check; exit code 1 on a failure.
//
//   cllm-resident-test MODEL all            every check below
//   cllm-resident-test MODEL quick          the same checks with few types, sizes and rounds
//   cllm-resident-test MODEL engine         bursts of an Engine; for a model that goes on for 150 tokens
//   cllm-resident-test MODEL refuse [LORA]  prints why the model (with that adapter applied) is not decoded resident

#include "resident_test.h"

#include <cstdio>
#include <cstring>

#include "base/ggml_guard.h"
#include "llama-context.h"
#include "llama-kv-cache-iswa.h"
#include "llama-memory-hybrid-iswa.h"
#include "llama-memory-hybrid.h"
#include "llama.h"
#include "llama/packed_buffer.h"

namespace cllm {

int failures = 0;

bool check(bool ok, const std::string& what) {
  if (!ok) {
    failures++;
    std::printf("FAILED %s\n", what.c_str());
    std::fflush(stdout);
  }
  return ok;
}

std::vector<Reported> burst(Side& side, std::span<const LaneWork> runs, int n, int count, int64_t vocab, bool logits) {
  std::vector<Reported> all(side.lanes.size());
  EachOutcome observer([&](const LaneOutcome& outcome) {
    Reported& reported = all[static_cast<size_t>(outcome.index)];
    reported.iterations.push_back(*outcome.iteration);
    if (logits) reported.logits.emplace_back(outcome.logits, outcome.logits + n * vocab);
  });
  const auto ran = side.runner->run(runs, {static_cast<int32_t>(runs.size()), 1, n}, count, observer);
  if (!check(ran.has_value(), "run() takes the lanes")) return all;
  check(*ran == PassResult::kOk, "run()");
  return all;
}

bool same(const Iteration& a, const Iteration& b) {
  return a.position == b.position && a.block == b.block && a.choices == b.choices && a.accepted == b.accepted &&
         a.emitted == b.emitted && a.stationary == b.stationary;
}

std::vector<Token> random_tokens(std::mt19937& random, int count, int64_t vocab) {
  std::vector<Token> tokens;
  for (int i = 0; i < count; i++) tokens.push_back(static_cast<Token>(random() % static_cast<uint64_t>(vocab)));
  return tokens;
}

Caches caches_of(Side& side) {
  llama_memory_i* memory = side.context.handle()->get_memory();
  if (auto* hybrid = dynamic_cast<llama_memory_hybrid*>(memory)) return {hybrid->get_mem_attn()};
  auto* iswa = dynamic_cast<llama_kv_cache_iswa*>(memory);
  if (auto* hybrid = dynamic_cast<llama_memory_hybrid_iswa*>(memory)) iswa = hybrid->get_mem_attn();
  if (iswa != nullptr) return {iswa->get_base(), iswa->get_swa()};
  return {dynamic_cast<llama_kv_cache*>(memory)};
}

namespace {

/// The cells and the next logits must be those of a context that never had a resident runner.
void check_handed_back(Side& resident, const ModelPointer& model, const ContextOptions& options, int n,
                       const std::string& name) {
  const int64_t vocab = model->info().vocab_size;
  for (int lane = 0; lane < options.lanes; lane++) {
    const auto tokens = resident.lanes[static_cast<size_t>(lane)].tokens();
    const int rows = static_cast<int>(tokens.size()) - 1;
    resident.context.trim(lane, rows);
    const Caches caches = caches_of(resident);
    const auto check_cells = [&](const llama_kv_cache& cache, int first) {
      const llama_kv_cells& cells = cache.get_cells(lane);
      check(cells.seq_pos_max(lane) == rows - 1, name + ": cells behind the confirmed rows are free");
      for (int p = std::max(0, first); p < rows; p++) {
        const auto cell = static_cast<uint32_t>(p) % cache.get_size();
        if (!check(!cells.is_empty(cell) && cells.pos_get(cell) == p, name + ": every confirmed row has its cell")) {
          break;
        }
      }
    };
    check_cells(*caches.full, 0);
    if (caches.windowed != nullptr) check_cells(*caches.windowed, rows - resident.context.model_memory().window);
    Side fresh(model, options, false);
    fresh.assign(lane, tokens);
    const Token next[2] = {tokens.back(), tokens.back()};
    const LaneTokens block{lane, rows, next};
    const auto logits_of = [&](Side& side) {
      if (side.context.decode({&block, 1}, true) != PassResult::kOk) check(false, name + ": decoding after the burst");
      return std::vector<float>(side.context.logits(), side.context.logits() + 2 * vocab);
    };
    const auto ours = logits_of(resident);
    const auto theirs = logits_of(fresh);
    check(n == 1 || std::memcmp(ours.data(), theirs.data(), ours.size() * 4) == 0,
          name + " n=" + std::to_string(n) + ": next-token logits of a fresh context");
  }
}

void lockstep(const ModelPointer& model, ContextOptions options, int n, int iterations, const std::string& name) {
  options.block_size = n;
  const int64_t vocab = model->info().vocab_size;
  Side host(model, options, false);
  Side resident(model, options, true);
  std::mt19937 random(static_cast<unsigned>(n));
  for (int lane = 0; lane < options.lanes; lane++) {
    // The prompts differ in length; the longest ends shortly before a 256-row boundary.
    const auto prompt = random_tokens(random, lane == 0 ? 240 : 20 + 31 * lane, vocab);
    host.assign(lane, prompt);
    resident.assign(lane, prompt);
  }
  for (int i = 0; i < iterations; i++) {
    const std::string where = name + " n=" + std::to_string(n) + " iteration " + std::to_string(i);
    std::vector<LaneWork> host_runs, resident_runs;
    for (int lane = 0; lane < options.lanes; lane++) {
      const int64_t room =
          options.context_size - static_cast<int64_t>(host.lanes[static_cast<size_t>(lane)].tokens().size());
      const auto mode = static_cast<DraftMode>((n + lane) % 5);
      host_runs.push_back(host.run(lane, 7, room, false, true, {}, mode));
      resident_runs.push_back(resident.run(lane, 7, room, false, true, {}, mode));
    }
    const auto a = burst(host, host_runs, n, 1, vocab, true);
    const auto b = burst(resident, resident_runs, n, 1, vocab, true);
    for (size_t lane = 0; lane < a.size(); lane++) {
      if (!check(a[lane].iterations.size() == 1 && b[lane].iterations.size() == 1, where + ": one iteration")) return;
      if (!check(same(a[lane].iterations[0], b[lane].iterations[0]), where + ": same iteration")) return;
      if (!check(std::memcmp(a[lane].logits[0].data(), b[lane].logits[0].data(), a[lane].logits[0].size() * 4) == 0,
                 where + ": logits equal to the bit")) {
        return;
      }
    }
    bool room = true;
    for (const Lane& lane : resident.lanes) {
      room = room && static_cast<int>(lane.tokens().size()) - 1 + n <= resident.resident->device_lane(0).state.row_end;
    }
    if (options.lanes == 1 && room) check_inputs(resident, 0, options.lanes, n, where);
    if (failures > 20) return;
  }
  check_handed_back(resident, model, options, n, name);
}

int run_all(const ModelPointer& model, bool quick) {
  ContextOptions options;
  options.context_size = 600;
  const int64_t embedding = model->info().embedding_size;
  for (const bool flash : {true, false}) {
    options.flash_attention = flash;
    for (const char* kv_type : {"f16", "f32", "q8_0", "q4_0"}) {
      if (quick && (!flash || std::string(kv_type) != "f16")) continue;
      const bool quantised = kv_type[0] == 'q';
      if (quantised && (!flash || embedding / model->info().head_count % 32 != 0)) continue;
      options.kv_type = kv_type;
      const std::string name = std::string(flash ? "flash attention" : "no flash attention") + ", " + kv_type;
      for (const int lanes : {1, 3}) {
        options.lanes = lanes;
        const std::string lanes_name = name + ", " + std::to_string(lanes) + " lanes";
        for (const int n : {1, 2, 3, 8, 16, 48}) {
          if (quick && (n == 3 || n > 8)) continue;
          if ((n > 8 || n == 3) && std::string(kv_type) != "f16") continue;
          options.threads = n == 8 && lanes == 3 ? 2 : 1;
          lockstep(model, options, n, n == 2 ? 40 : 8, lanes_name);
        }
        const bool recurrent = memory_of(model->handle()).max_rollback >= 0;
        for (const int count : flash && !recurrent ? std::vector<int>{2, 4} : std::vector<int>{}) {
          candidates(model, options, 4, count, lanes_name + ", " + std::to_string(count) + " candidates");
        }
      }
      std::printf("ok %s\n", name.c_str());
      std::fflush(stdout);
    }
  }
  options.kv_type = "f16";
  options.lanes = 4;
  options.threads = 1;
  for (const bool flash : {true, false}) {
    options.flash_attention = flash;
    for (unsigned seed = 1; seed <= (quick ? 2u : 4u); seed++) fuzz(model, options, seed, quick ? 20 : 60);
    std::printf("ok bursts, lanes that come and go, %s\n", flash ? "flash attention" : "no flash attention");
  }
  options.flash_attention = true;
  options.lanes = 3;
  if (!quick) loops(model, options, Recorded::kNothing, "bursts of single launches");
  if (!quick) loops(model, options, Recorded::kIteration, "bursts of recorded iterations");
  loops(model, options, Recorded::kLoop, "bursts as recorded loops");
  failing_loops(model, options);
  return failures == 0 ? 0 : 1;
}

int refuse(const ModelPointer& model, const char* adapter) {
  ContextOptions options;
  options.context_size = 64;
  options.block_size = memory_of(model->handle()).max_rollback != 0 ? 4 : 1;
  Context context(model, options);
  llama_adapter_lora* lora = nullptr;
  if (adapter != nullptr) {
    lora = llama_adapter_lora_init(model->handle(), adapter);
    if (lora == nullptr) return 2;
    float scale = 1;
    if (llama_set_adapters_lora(context.handle(), &lora, 1, &scale) != 0) return 2;
  }
  std::string reason;
  const auto runner = ResidentRunner::create(context, reason);
  std::printf("%s\n", runner == nullptr ? reason.c_str() : "accepted");
  return 0;
}

}  // namespace

}  // namespace cllm

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  cllm::install_ggml_guard();
  llama_backend_init();
  cllm::register_packed_buffer();
  try {
    const auto model = std::make_shared<const cllm::Model>(argv[1], cllm::LoadOptions{}, [](float) { return true; });
    if (std::string(argv[2]) == "engine") {
      cllm::engine_bursts(model, {.context_size = 300});
      return cllm::failures == 0 ? 0 : 1;
    }
    const std::string what = argv[2];
    if (what == "all" || what == "quick") return cllm::run_all(model, what == "quick");
    return cllm::refuse(model, argc > 3 ? argv[3] : nullptr);
  } catch (const cllm::Error& error) {
    std::printf("FAILED %s: %s\n", error.code().c_str(), error.what());
    return 1;
  }
}
