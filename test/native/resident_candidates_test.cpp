// Candidates: answers that are planted in them must win, and leave the KV rows that decoding would have written.

#include <algorithm>

#include "llama/graph_bridge.h"
#include "resident_test.h"

namespace cllm {

namespace {

/// The bytes of the K and V rows [0, rows) of a lane in all layers.
std::vector<char> kv_bytes(Side& side, int lane, int rows) {
  std::string reason;
  const auto bridge = GraphBridge::create(side.context.handle(), nullptr, reason);
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

/// Writes the lane's candidates. The candidate `planted` has the answer's next tokens, of which those behind slot
/// `right` are wrong; all tokens of the others are wrong.
void plant(Side& side, int lane, const std::vector<Token>& answer, const PassShape& shape, int planted, int right,
           int64_t vocab) {
  const auto& tokens = side.lanes[static_cast<size_t>(lane)].tokens();
  for (int c = 1; c < shape.candidates; c++) {
    std::vector<Token> block;
    for (int j = 0; j < shape.block; j++) {
      const size_t at = tokens.size() - 1 + static_cast<size_t>(j);
      Token token = at < answer.size() ? answer[at] : 0;
      if (c != planted || (j > right && j > 0)) token = static_cast<Token>((token + 1) % vocab);
      block.push_back(token);
    }
    side.resident->set_candidate(lane, c, block);
  }
}

}  // namespace

void candidates(const ModelPointer& model, ContextOptions options, int n, int count, const std::string& name) {
  const int64_t vocab = model->info().vocab_size;
  options.block_size = n;
  options.swa_full = true;  // as candidates want it: a ring of rows is summed in another order
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
    if (!check(resident.resident->make_resident(runs, shape), name + ": make_resident")) return;
    const int right = i % n;
    for (int lane = 0; lane < options.lanes; lane++) {
      plant(resident, lane, answers[static_cast<size_t>(lane)], shape, 1 + (i + lane) % (count - 1), right, vocab);
    }
    EachOutcome observer([&](const LaneOutcome& outcome) {
      const Iteration& iteration = *outcome.iteration;
      check(iteration.accepted >= right || iteration.emitted >= 1, name + ": the planted candidate wins");
      if (iteration.accepted >= right && right > 0) won++;
      const auto& tokens = resident.lanes[static_cast<size_t>(outcome.index)].tokens();
      const auto& answer = answers[static_cast<size_t>(outcome.index)];
      const auto end = tokens.begin() + static_cast<std::ptrdiff_t>(std::min(tokens.size(), answer.size()));
      check(std::equal(tokens.begin(), end, answer.begin()), name + ": same tokens as without candidates");
    });
    const auto ran = resident.runner->run(runs, shape, 1, observer);
    if (!check(ran && *ran == PassResult::kOk, name + ": run") || failures > 20) return;
  }
  check(won > 0, name + ": candidates won");
  // With the same number of candidates the fresh context has the same number of cells, or transposed rows would lie
  // elsewhere.
  for (int lane = 0; lane < options.lanes; lane++) {
    const auto tokens = resident.lanes[static_cast<size_t>(lane)].tokens();
    const int rows = static_cast<int>(tokens.size()) - 1;
    Side fresh(model, options, false);
    fresh.assign(lane, tokens);
    check(kv_bytes(resident, lane, rows) == kv_bytes(fresh, lane, rows), name + ": KV rows as by decoding them again");
  }
}

}  // namespace cllm
