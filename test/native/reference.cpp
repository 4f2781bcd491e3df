// Greedy decoding written with nothing but llama.h: what the suites compare node-cllm with. Shares no code with
// native/, but for its products where they are asked for ("packed"): they round otherwise than llama.cpp's.
//
//   cllm-reference MODEL THREADS CONTEXT packed|plain < requests
//
// One request a line: "WIDTH CHUNK MAX_TOKENS token token ...". WIDTH is the number of tokens in every decoding batch:
// 1 is ordinary decoding; with 2 and more the rest are dummies whose rows are removed again, so that llama.cpp uses the
// kernels that it uses for blocks. CHUNK is the prefill batch; a lone token is padded when WIDTH > 1.
// One answer a line: "token:gap token:gap ...", gap = the largest logit minus the second largest.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "llama.h"
#include "llama/packed_buffer.h"

namespace {

llama_batch batch;

bool decode(llama_context* context, const std::vector<llama_token>& tokens, int position, bool logits) {
  batch.n_tokens = static_cast<int32_t>(tokens.size());
  for (int i = 0; i < batch.n_tokens; i++) {
    batch.token[i] = tokens[static_cast<size_t>(i)];
    batch.pos[i] = position + i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = logits;
  }
  return llama_decode(context, batch) == 0;
}

struct Choice {
  llama_token token;
  float gap;
};

Choice choose(const float* logits, int vocab) {
  int best = 0;
  for (int i = 1; i < vocab; i++) {
    if (logits[i] > logits[best]) best = i;
  }
  float second = -1e30f;
  for (int i = 0; i < vocab; i++) {
    if (i != best) second = std::max(second, logits[i]);
  }
  return {best, logits[best] - second};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: cllm-reference MODEL THREADS CONTEXT packed|plain < requests\n");
    return 2;
  }
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  if (std::string_view(argv[4]) == "packed") cllm::register_packed_buffer();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) return 1;
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(std::atoi(argv[3]));
  params.n_batch = 512;
  params.n_ubatch = 512;
  params.n_threads = std::atoi(argv[2]);
  params.n_threads_batch = params.n_threads;
  params.swa_full = true;
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) return 1;
  const llama_vocab* vocab = llama_model_get_vocab(model);
  const int vocab_size = llama_vocab_n_tokens(vocab);
  llama_memory_t memory = llama_get_memory(context);
  batch = llama_batch_init(512, 0, 1);

  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream in(line);
    int width = 1, chunk = 512, max_tokens = 1;
    in >> width >> chunk >> max_tokens;
    std::vector<llama_token> prompt;
    for (llama_token token; in >> token;) prompt.push_back(token);
    llama_memory_seq_rm(memory, 0, -1, -1);

    const int last = static_cast<int>(prompt.size()) - 1;
    for (int at = 0; at < last; at += chunk) {
      std::vector<llama_token> piece(prompt.begin() + at, prompt.begin() + std::min(at + chunk, last));
      const int written = at + static_cast<int>(piece.size());
      if (piece.size() == 1 && width > 1) piece.push_back(0);
      if (!decode(context, piece, at, false)) return 1;
      llama_memory_seq_rm(memory, 0, written, -1);
    }
    llama_token current = prompt.back();
    for (int i = 0; i < max_tokens; i++) {
      std::vector<llama_token> block(static_cast<size_t>(width), 0);
      block[0] = current;
      if (!decode(context, block, last + i, true)) return 1;
      const Choice choice = choose(llama_get_logits_ith(context, 0), vocab_size);
      llama_memory_seq_rm(memory, 0, last + i + 1, -1);
      std::printf("%s%d:%.6g", i == 0 ? "" : " ", choice.token, choice.gap);
      current = choice.token;
      if (llama_vocab_is_eog(vocab, current)) break;
    }
    std::printf("\n");
    std::fflush(stdout);
  }
  llama_batch_free(batch);
  llama_free(context);
  llama_model_free(model);
  llama_backend_free();
  return 0;
}
