// The device loop against llama_decode on a real model file: ResidentRunner and HostRunner in lockstep, iteration by
// iteration, bit by bit. Prints one line per check; exit code 1 on a failure.
//
//   cllm-resident-test MODEL all            every check below
//   cllm-resident-test MODEL refuse [LORA]  prints why the model (with that adapter applied) is not decoded resident

#include <cstdio>
#include <cstring>
#include <random>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "decode/host_runner.h"
#include "decode/resident_runner.h"
#include "ggml-backend.h"
#include "llama-kv-cache.h"
#include "llama.h"
#include "llama/packed_buffer.h"

using namespace cllm;

namespace {

int failures = 0;

bool check(bool ok, const std::string& what) {
  if (!ok) {
    failures++;
    std::printf("FAILED %s\n", what.c_str());
    std::fflush(stdout);
  }
  return ok;
}

using ModelPointer = std::shared_ptr<const Model>;

/// One context with its runner and lanes. Both sides of a comparison get the same calls.
struct Side {
  Context context;
  std::unique_ptr<IterationRunner> runner;
  ResidentRunner* resident = nullptr;
  std::vector<Lane> lanes;

  Side(const ModelPointer& model, const ContextOptions& options, bool is_resident) : context(model, options) {
    lanes.resize(static_cast<size_t>(options.lanes));
    if (!is_resident) {
      runner = std::make_unique<HostRunner>(context);
      return;
    }
    std::string reason;
    auto made = ResidentRunner::create(context, reason);
    if (made == nullptr) throw Error("TEST", "Expected a resident runner but: " + reason);
    resident = made.get();
    runner = std::move(made);
  }

  // As Engine does it: chunks of 32, a lone token padded to two.
  void prefill(int lane) {
    Lane& it = lanes[static_cast<size_t>(lane)];
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

/// What a side reported of one lane.
struct Reported {
  std::vector<Iteration> iterations;
  std::vector<std::vector<float>> logits;
};

std::vector<Reported> burst(Side& side, std::span<const LaneWork> runs, int n, int count, int64_t vocab, bool logits) {
  std::vector<Reported> all(side.lanes.size());
  const auto ran = side.runner->run(runs, {static_cast<int32_t>(runs.size()), 1, n}, count);
  if (!check(ran.has_value(), "run() takes the lanes")) return all;
  check(ran->result == PassResult::kOk, "run()");
  for (const LaneOutcome& outcome : ran->outcomes) {
    Reported& reported = all[static_cast<size_t>(outcome.index)];
    reported.iterations.push_back(*outcome.iteration);
    if (logits) reported.logits.emplace_back(outcome.logits, outcome.logits + n * vocab);
  }
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

// --- what llama.cpp would have written ------------------------------------------------------------------------------

llama_kv_cache& cache_of(Side& side) {
  return static_cast<llama_kv_cache&>(*reinterpret_cast<llama_memory_i*>(llama_get_memory(side.context.handle())));
}

/// The inputs of the next pass, as the runner left them, against set_input_* of llama.cpp for the same block.
void check_inputs(Side& side, int first, int lanes, int n, const std::string& where) {
  const ResidentGraph* graph = side.resident->device_lane(first).graph;
  if (!check(graph != nullptr, where + ": a graph")) return;
  const GraphInputs& inputs = graph->inputs;
  const auto rows = static_cast<size_t>(lanes * n);
  std::vector<llama_token> tokens;
  std::vector<llama_pos> positions;
  std::vector<llama_seq_id> ids, unique;
  llama_kv_cache::slot_info slots;
  slots.s0 = static_cast<uint32_t>(first);
  slots.s1 = static_cast<uint32_t>(first + lanes - 1);
  slots.resize(static_cast<size_t>(lanes));
  for (int b = 0; b < lanes; b++) {
    Lane& lane = side.lanes[static_cast<size_t>(first + b)];
    const LaneState& state = side.resident->device_lane(first + b).state;
    const auto block = lane.block(n, state.seed, static_cast<DraftMode>(state.draft_mode));
    const int p = static_cast<int>(lane.tokens().size()) - 1;
    unique.push_back(first + b);
    slots.strm[static_cast<size_t>(b)] = first + b;
    for (int j = 0; j < n; j++) {
      tokens.push_back(block[static_cast<size_t>(j)]);
      positions.push_back(p + j);
      ids.push_back(first + b);
      slots.idxs[static_cast<size_t>(b)].push_back(static_cast<uint32_t>(p + j));
    }
  }
  std::vector<int32_t> n_seq_id(rows, 1);
  std::vector<llama_seq_id*> seq_id;
  for (auto& id : ids) seq_id.push_back(&id);
  std::vector<int8_t> output(rows, 1);
  llama_ubatch batch{};
  batch.b_equal_seqs = 1;
  batch.n_tokens = static_cast<uint32_t>(rows);
  batch.n_seq_tokens = static_cast<uint32_t>(n);
  batch.n_seqs = batch.n_seqs_unq = static_cast<uint32_t>(lanes);
  batch.n_pos = 1;
  batch.token = tokens.data();
  batch.pos = positions.data();
  batch.n_seq_id = n_seq_id.data();
  batch.seq_id = seq_id.data();
  batch.seq_id_unq = unique.data();
  batch.output = output.data();

  ggml_context* scratch = ggml_init({.mem_size = 16 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true});
  const size_t v_width = static_cast<size_t>(std::max<int64_t>(1, inputs.v_width));
  ggml_tensor* k = ggml_new_tensor_1d(scratch, GGML_TYPE_I64, static_cast<int64_t>(rows));
  ggml_tensor* v = ggml_new_tensor_1d(scratch, GGML_TYPE_I64, static_cast<int64_t>(rows * v_width));
  ggml_tensor* mask =
      ggml_new_tensor_4d(scratch, inputs.mask_f16 != 0 ? GGML_TYPE_F16 : GGML_TYPE_F32, inputs.n_kv, n, 1, lanes);
  ggml_backend_t cpu = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
  ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(scratch, cpu);
  llama_kv_cache& cache = cache_of(side);
  cache.set_input_k_idxs(k, &batch, slots);
  cache.set_input_v_idxs(v, &batch, slots);
  cache.set_input_kq_mask(mask, &batch, true);
  const auto compare = [&](const void* ours, const void* theirs, size_t bytes, const char* what) {
    std::vector<char> read(bytes);
    side.resident->device().read(read.data(), ours, bytes);
    check(std::memcmp(read.data(), theirs, bytes) == 0, where + ": " + what + " as llama.cpp's");
  };
  compare(inputs.tokens, tokens.data(), rows * sizeof(Token), "tokens");
  if (inputs.positions != nullptr) compare(inputs.positions, positions.data(), rows * sizeof(int32_t), "positions");
  compare(inputs.k_rows, k->data, rows * sizeof(int64_t), "K rows");
  compare(inputs.v_rows, v->data, rows * v_width * sizeof(int64_t), "V rows");
  compare(inputs.mask, mask->data, ggml_nbytes(mask), "mask");
  ggml_backend_buffer_free(buffer);
  ggml_backend_free(cpu);
  ggml_free(scratch);
}

// --- lockstep -------------------------------------------------------------------------------------------------------

void lockstep(const ModelPointer& model, ContextOptions options, int n, int iterations, const std::string& name) {
  options.block_size = n;
  const int64_t vocab = model->info().vocab_size;
  Side host(model, options, false);
  Side resident(model, options, true);
  std::mt19937 random(static_cast<unsigned>(n));
  for (int lane = 0; lane < options.lanes; lane++) {
    // Of different lengths, the longest shortly before a 256-row boundary.
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

  // Handed back: the cells and the next logits are those of a context that never heard of a resident runner.
  for (int lane = 0; lane < options.lanes; lane++) {
    Lane& it = resident.lanes[static_cast<size_t>(lane)];
    const auto tokens = it.tokens();
    const int rows = static_cast<int>(tokens.size()) - 1;
    resident.context.trim(lane, rows);
    const auto& cells = cache_of(resident).get_cells(lane);
    check(cells.used_max_p1() == static_cast<uint32_t>(rows), name + ": cells behind the confirmed rows are free");
    for (int c = 0; c < rows; c++) {
      if (!check(!cells.is_empty(static_cast<uint32_t>(c)) && cells.pos_get(static_cast<uint32_t>(c)) == c,
                 name + ": every confirmed row has its cell")) {
        break;
      }
    }
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

// --- bursts, lanes that come and go ---------------------------------------------------------------------------------

void fuzz(const ModelPointer& model, ContextOptions options, unsigned seed, int rounds) {
  std::mt19937 random(seed);
  const auto pick = [&](int lowest, int highest) {
    return lowest + static_cast<int>(random() % static_cast<unsigned>(highest - lowest + 1));
  };
  options.block_size = 16;
  const int64_t vocab = model->info().vocab_size;
  const std::string name = "fuzz " + std::to_string(seed);
  Side host(model, options, false);
  Side resident(model, options, true);
  std::vector<uint64_t> seeds(static_cast<size_t>(options.lanes), 1);
  std::vector<Choosing> choosings(static_cast<size_t>(options.lanes));
  const auto restart = [&](int lane) {
    const auto prompt = random_tokens(random, pick(1, 60), vocab);
    host.assign(lane, prompt);
    resident.assign(lane, prompt);
    seeds[static_cast<size_t>(lane)] = random();
    Choosing& choosing = choosings[static_cast<size_t>(lane)];
    choosing = {};
    if (pick(0, 1) == 1) choosing.sampling = {.temperature = 0.8f, .top_k = pick(0, 1) * 20, .seed = random()};
    if (pick(0, 2) != 0) return;
    auto bias = std::make_shared<std::vector<float>>(static_cast<size_t>(vocab), 0.0f);
    for (float& value : *bias) value = pick(0, 3) == 0 ? -INFINITY : 0.01f * static_cast<float>(pick(-50, 50));
    choosing.bias = std::move(bias);
  };
  for (int lane = 0; lane < options.lanes; lane++) restart(lane);
  for (int round = 0; round < rounds; round++) {
    const int n = pick(2, 16);
    const int count = pick(1, 8);
    const bool stop = pick(0, 1) == 1;
    std::vector<LaneWork> host_runs, resident_runs;
    for (int lane = 0; lane < options.lanes; lane++) {
      const int size = static_cast<int>(host.lanes[static_cast<size_t>(lane)].tokens().size());
      if (size - 1 + n > options.context_size || pick(0, 9) == 0) {
        restart(lane);  // prefill while others stay resident
      } else if (pick(0, 9) == 0) {
        const int keep = pick(1, size);
        for (Side* side : {&host, &resident}) {
          Lane& it = side->lanes[static_cast<size_t>(lane)];
          it.rollback(keep);
          if (pick(0, 1) == 0) it.lost_rows(side->context.trim(lane, it.written()));
        }
      } else if (pick(0, 9) == 0) {
        const auto draft = random_tokens(random, n - 1, vocab);
        for (Side* side : {&host, &resident}) side->lanes[static_cast<size_t>(lane)].set_draft(draft);
      }
      host.prefill(lane);
      resident.prefill(lane);
      if (pick(0, 3) == 0) continue;
      const int64_t room =
          options.context_size - static_cast<int64_t>(host.lanes[static_cast<size_t>(lane)].tokens().size());
      if (static_cast<int64_t>(n) > room + 1) continue;
      const int64_t budget = std::min<int64_t>(room, pick(1, 40));
      const auto at = static_cast<size_t>(lane);
      // Modes change from burst to burst, as a decoder's do.
      const auto mode = pick(0, 3) == 0 ? static_cast<DraftMode>(pick(0, 4)) : host.lanes[at].better_mode(n);
      check(mode == kDraftRandom || host.lanes[at].better_mode(n) == resident.lanes[at].better_mode(n),
            name + ": both sides prefer the same drafts");
      host_runs.push_back(host.run(lane, seeds[at], budget, stop, false, choosings[at], mode));
      resident_runs.push_back(resident.run(lane, seeds[at], budget, stop, false, choosings[at], mode));
    }
    if (host_runs.empty()) continue;
    const auto b = burst(resident, resident_runs, n, count, vocab, false);
    // The host does one iteration at a time, each lane as many as the burst did.
    const uint8_t* ends = model->end_of_generation().data();
    for (LaneWork& run : host_runs) {
      const auto& reported = b[static_cast<size_t>(run.index)].iterations;
      const std::string where = name + " round " + std::to_string(round) + " lane " + std::to_string(run.index);
      check(!reported.empty(), where + ": at least one iteration");
      for (size_t i = 0; i < reported.size(); i++) {
        const auto a = burst(host, {&run, 1}, n, 1, vocab, false);
        const Iteration& one = a[static_cast<size_t>(run.index)].iterations.at(0);
        if (!check(same(one, reported[i]), where + ": same iteration")) return;
        run.budget -= one.emitted;
        const bool over = run.budget == 0 || (stop && ends[one.choices[static_cast<size_t>(one.emitted - 1)]] != 0);
        check(!over || i + 1 == reported.size(), where + ": nothing after the end");
      }
      check(resident.lanes[static_cast<size_t>(run.index)].tokens() ==
                host.lanes[static_cast<size_t>(run.index)].tokens(),
            where + ": same tokens");
    }
    if (failures > 20) return;
  }
}

// --- candidates -----------------------------------------------------------------------------------------------------

/// The bytes of the K and V rows [0, rows) of a lane in all layers.
std::vector<char> kv_bytes(Side& side, int lane, int rows) {
  std::string reason;
  const auto bridge = GraphBridge::create(side.context.handle(), 1, nullptr, reason);
  const auto device = bridge->make_device();
  std::vector<char> bytes;
  const auto append = [&](const char* from, int64_t count) {
    bytes.resize(bytes.size() + static_cast<size_t>(count));
    device->read(bytes.data() + bytes.size() - count, from, static_cast<size_t>(count));
  };
  for (const KvTensor& tensor : bridge->kv_tensors()) {
    const int64_t kv_size = bridge->kv_size();
    if (tensor.row_bytes != 0) {
      const char* from = tensor.data + lane * kv_size * tensor.row_bytes;
      append(from, rows * tensor.row_bytes);
      continue;
    }
    for (int e = 0; e < tensor.width; e++) {
      const char* from = tensor.data + (static_cast<int64_t>(lane) * tensor.width + e) * kv_size * tensor.element_bytes;
      append(from, rows * tensor.element_bytes);
    }
  }
  return bytes;
}

void candidates(const ModelPointer& model, ContextOptions options, int n, int count, const std::string& name) {
  const int64_t vocab = model->info().vocab_size;
  options.block_size = n;
  Side host(model, options, false);
  options.candidates = count;
  Side resident(model, options, true);
  std::mt19937 random(5);
  std::vector<std::vector<Token>> answers;
  constexpr int kTokens = 90;
  const auto choosing = [](int lane) {  // every other lane draws
    return lane % 2 == 0 ? Choosing{} : Choosing{.sampling = {.temperature = 0.9f, .top_p = 0.95f, .seed = 99}};
  };
  for (int lane = 0; lane < options.lanes; lane++) {
    const auto prompt = random_tokens(random, 200 + lane, vocab);
    host.assign(lane, prompt);
    resident.assign(lane, prompt);
    while (host.lanes[static_cast<size_t>(lane)].tokens().size() < prompt.size() + kTokens + static_cast<size_t>(n)) {
      const LaneWork run = host.run(lane, 3, 1000, false, false, choosing(lane));
      burst(host, {&run, 1}, n, 1, vocab, false);
    }
    answers.push_back(host.lanes[static_cast<size_t>(lane)].tokens());
  }
  int won = 0;
  for (int i = 0; static_cast<int>(resident.lanes[0].tokens().size()) < 200 + kTokens; i++) {
    std::vector<LaneWork> runs;
    for (int lane = 0; lane < options.lanes; lane++) {
      runs.push_back(resident.run(lane, 3, 1000, false, false, choosing(lane), static_cast<DraftMode>(lane % 3)));
    }
    const PassShape shape{options.lanes, count, n};
    if (!check(resident.resident->take(runs, shape), name + ": take")) return;
    // The answer planted in one candidate of every lane, another one each time; sometimes only a part of it.
    const int right = i % n;
    for (int lane = 0; lane < options.lanes; lane++) {
      const auto& tokens = resident.lanes[static_cast<size_t>(lane)].tokens();
      const auto& answer = answers[static_cast<size_t>(lane)];
      for (int c = 1; c < count; c++) {
        std::vector<Token> block;
        for (int j = 0; j < n; j++) {
          const size_t at = tokens.size() - 1 + static_cast<size_t>(j);
          Token token = at < answer.size() ? answer[at] : 0;
          if (c != 1 + (i + lane) % (count - 1) || (j > right && j > 0))
            token = static_cast<Token>((token + 1) % vocab);
          block.push_back(token);
        }
        resident.resident->set_candidate(lane, c, block);
      }
    }
    const auto ran = resident.runner->run(runs, shape, 1);
    if (!check(ran && ran->result == PassResult::kOk, name + ": run")) return;
    for (const LaneOutcome& outcome : ran->outcomes) {
      const Iteration& iteration = *outcome.iteration;
      check(iteration.accepted >= right || iteration.emitted >= 1, name + ": the planted candidate wins");
      if (iteration.accepted >= right && right > 0) won++;
      const auto& tokens = resident.lanes[static_cast<size_t>(outcome.index)].tokens();
      const auto& answer = answers[static_cast<size_t>(outcome.index)];
      for (size_t t = 0; t < std::min(tokens.size(), answer.size()); t++) {
        if (!check(tokens[t] == answer[t], name + ": same tokens as without candidates")) return;
      }
    }
  }
  check(won > 0, name + ": candidates won");
  for (int lane = 0; lane < options.lanes; lane++) {
    const auto tokens = resident.lanes[static_cast<size_t>(lane)].tokens();
    const int rows = static_cast<int>(tokens.size()) - 1;
    ContextOptions plain = options;
    plain.candidates = count;  // the same number of cells, or transposed rows would lie elsewhere
    Side fresh(model, plain, false);
    fresh.assign(lane, tokens);
    check(kv_bytes(resident, lane, rows) == kv_bytes(fresh, lane, rows), name + ": KV rows as by decoding them again");
  }
}

int run_all(const ModelPointer& model) {
  ContextOptions options;
  options.context_size = 600;
  const int64_t embedding = model->info().embedding_size;
  for (const bool flash : {true, false}) {
    options.flash_attention = flash;
    for (const char* kv_type : {"f16", "f32", "q8_0", "q4_0"}) {
      const bool quantised = kv_type[0] == 'q';
      if (quantised && (!flash || embedding / model->info().head_count % 32 != 0)) continue;
      options.kv_type = kv_type;
      const std::string name = std::string(flash ? "flash attention" : "no flash attention") + ", " + kv_type;
      for (const int lanes : {1, 3}) {
        options.lanes = lanes;
        const std::string lanes_name = name + ", " + std::to_string(lanes) + " lanes";
        for (const int n : {1, 2, 3, 8, 16, 48}) {
          if ((n > 8 || n == 3) && std::string(kv_type) != "f16") continue;
          options.threads = n == 8 && lanes == 3 ? 2 : 1;
          lockstep(model, options, n, n == 2 ? 40 : 8, lanes_name);
        }
        for (const int count : flash ? std::vector<int>{2, 4} : std::vector<int>{}) {
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
    for (unsigned seed = 1; seed <= 4; seed++) fuzz(model, options, seed, 60);
    std::printf("ok bursts, lanes that come and go, %s\n", flash ? "flash attention" : "no flash attention");
  }
  return failures == 0 ? 0 : 1;
}

int refuse(const ModelPointer& model, const char* adapter) {
  ContextOptions options;
  options.context_size = 64;
  options.block_size = model->info().can_roll_back ? 4 : 1;
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

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  install_ggml_guard();
  llama_backend_init();
  register_packed_buffer();
  try {
    const auto model = std::make_shared<const Model>(argv[1], LoadOptions{}, [](float) { return true; });
    return std::string(argv[2]) == "all" ? run_all(model) : refuse(model, argc > 3 ? argv[3] : nullptr);
  } catch (const Error& error) {
    std::printf("FAILED %s: %s\n", error.code().c_str(), error.what());
    return 1;
  }
}
