// Greedy decoding written with nothing but llama.h: what the suites compare node-cllm with. It shares no code with
// native/, except that "packed" takes its products, which round otherwise than llama.cpp's.
//
//   cllm-reference MODEL THREADS CONTEXT KIND [WEIGHT FACTOR | ADAPTER.gguf SCALE] < requests
//
// KIND says how products are computed:
//   packed   by our own products, where the CPU and the format of a weight allow
//   plain    as llama.cpp's own tools do
//   exact    in F32: no repacking, no flash attention, a KV cache in F32. Give it a file in F32.
//   rounded  as exact, but the activations of every product with weights are rounded to 8 bits first, in blocks of 32,
//            and the KV cache is F16: what a quantised format is entitled to round
// WEIGHT and FACTOR plant a bug: the result of the product with the weight of that name is multiplied by FACTOR. A LoRA
// adapter is computed by llama.cpp beside the products, in each pass.
//
// One request a line: "WIDTH CHUNK MAX_TOKENS token token ...". WIDTH is the number of tokens in every decoding batch:
// 1 is ordinary decoding; with 2 and more the rest are dummies whose rows are removed again, so that llama.cpp uses the
// kernels that it uses for blocks. CHUNK is the prefill batch; a lone token is padded when WIDTH > 1.
// One answer a line: "token token ...".
//
// A request that goes on with " : token token ..." is not decoded freely: these tokens are fed, WIDTH at a time,
// whatever is chosen, and the answer is binary: for each of them the [vocab] logits that it is chosen from, as floats.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "ggml-backend.h"
#include "ggml.h"
#include "llama.h"
#include "llama/packed_buffer.h"

namespace {

constexpr int kBatch = 512;  // the most tokens of a batch

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

llama_token choose(const float* logits, int vocab) {
  return static_cast<llama_token>(std::max_element(logits, logits + vocab) - logits);
}

/// What is done to products with weights.
struct Changes {
  bool round = false;  // the activations, beforehand
  std::string weight;  // of the product whose result is multiplied by `factor`
  float factor = 1;
};

bool is_weight(const ggml_tensor* tensor) { return tensor->op == GGML_OP_NONE && tensor->view_src == nullptr; }

/// Rounds x[32] to the nearest multiples of its largest size / 127. Rounding again changes nothing.
void round_block(float* x) {
  float largest = 0;
  for (int i = 0; i < 32; i++) largest = std::max(largest, std::abs(x[i]));
  if (largest == 0) return;
  for (int i = 0; i < 32; i++) x[i] = largest / 127 * std::nearbyint(x[i] * (127 / largest));
}

/// Called by ggml before each operation (`ask`) and behind it. By then the operations before have been computed.
bool change_product(ggml_tensor* op, bool ask, void* data) {
  if (op->op != GGML_OP_MUL_MAT || !is_weight(op->src[0])) return true;
  const auto& changes = *static_cast<const Changes*>(data);
  if (ask && changes.round) {
    auto* x = static_cast<float*>(op->src[1]->data);
    for (int64_t i = 0; i + 32 <= ggml_nelements(op->src[1]); i += 32) round_block(x + i);
  } else if (!ask && changes.weight == op->src[0]->name) {
    auto* out = static_cast<float*>(op->data);
    for (int64_t i = 0; i < ggml_nelements(op); i++) out[i] *= changes.factor;
  }
  return true;
}

struct Request {
  int width = 1;       // tokens per decoding batch
  int chunk = 512;     // tokens per prefill batch
  int max_tokens = 1;  // of the answer
  std::vector<llama_token> prompt;
  bool forced = false;  // `answer` is fed instead of what is chosen
  std::vector<llama_token> answer;
};

std::vector<llama_token> read_tokens(std::istream& in) {
  std::vector<llama_token> tokens;
  for (llama_token token; in >> token;) tokens.push_back(token);
  return tokens;
}

Request read_request(const std::string& line) {
  const size_t colon = std::min(line.find(':'), line.size());
  std::istringstream in(line.substr(0, colon));
  Request request;
  in >> request.width >> request.chunk >> request.max_tokens;
  request.prompt = read_tokens(in);
  request.forced = colon < line.size();
  if (request.forced) {
    std::istringstream rest(line.substr(colon + 1));
    request.answer = read_tokens(rest);
  }
  return request;
}

/// All of the prompt but its last token.
bool prefill(llama_context* context, const Request& request) {
  const auto& prompt = request.prompt;
  const int last = static_cast<int>(prompt.size()) - 1;
  for (int at = 0; at < last; at += request.chunk) {
    std::vector<llama_token> piece(prompt.begin() + at, prompt.begin() + std::min(at + request.chunk, last));
    const int written = at + static_cast<int>(piece.size());
    if (piece.size() == 1 && request.width > 1) piece.push_back(0);
    if (!decode(context, piece, at, false)) return false;
    llama_memory_seq_rm(llama_get_memory(context), 0, written, -1);
  }
  return true;
}

/// Feeds `tokens` from `position` on, padded to a batch of `width`, and removes the rows of the padding.
bool feed(llama_context* context, std::vector<llama_token> tokens, int width, int position) {
  const int end = position + static_cast<int>(tokens.size());
  tokens.resize(std::max(tokens.size(), static_cast<size_t>(width)), 0);
  if (!decode(context, tokens, position, true)) return false;
  llama_memory_seq_rm(llama_get_memory(context), 0, end, -1);
  return true;
}

/// Decodes one token after the other, and prints the choices.
bool answer(llama_context* context, const Request& request) {
  const llama_vocab* vocab = llama_model_get_vocab(llama_get_model(context));
  int position = static_cast<int>(request.prompt.size()) - 1;
  llama_token current = request.prompt.back();
  for (int i = 0; i < request.max_tokens; i++) {
    if (!feed(context, {current}, request.width, position++)) return false;
    current = choose(llama_get_logits_ith(context, 0), llama_vocab_n_tokens(vocab));
    std::printf("%s%d", i == 0 ? "" : " ", current);
    if (llama_vocab_is_eog(vocab, current)) break;
  }
  std::printf("\n");
  return true;
}

/// Writes the logits that each token of the forced answer is chosen from.
bool force(llama_context* context, const Request& request) {
  const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(context)));
  const int last = static_cast<int>(request.prompt.size()) - 1, count = static_cast<int>(request.answer.size());
  std::vector<llama_token> tokens = {request.prompt.back()};
  tokens.insert(tokens.end(), request.answer.begin(), request.answer.end());
  for (int i = 0; i < count; i += request.width) {
    const int end = std::min(i + request.width, count);
    if (!feed(context, {tokens.begin() + i, tokens.begin() + end}, request.width, last + i)) return false;
    for (int row = 0; row < end - i; row++) {
      std::fwrite(llama_get_logits_ith(context, row), sizeof(float), static_cast<size_t>(vocab), stdout);
    }
  }
  return true;
}

llama_context_params context_params(int threads, int context_size, std::string_view kind, Changes& changes) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(context_size);
  params.n_batch = kBatch;
  params.n_ubatch = kBatch;
  params.n_threads = threads;
  params.n_threads_batch = threads;
  params.swa_full = true;
  if (kind == "exact" || kind == "rounded") {
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = params.type_v = kind == "exact" ? GGML_TYPE_F32 : GGML_TYPE_F16;
  }
  if (changes.round || !changes.weight.empty()) {
    params.cb_eval = change_product;
    params.cb_eval_user_data = &changes;
  }
  return params;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 && argc != 7) {
    std::fprintf(stderr,
                 "usage: cllm-reference MODEL THREADS CONTEXT packed|plain|exact|rounded [WEIGHT FACTOR | ADAPTER.gguf "
                 "SCALE] < requests\n");
    return 2;
  }
  const std::string_view kind = argv[4];
  Changes changes{.round = kind == "rounded"};
  const bool adapts = argc == 7 && std::string_view(argv[5]).ends_with(".gguf");
  if (argc == 7 && !adapts) {
    changes.weight = argv[5];
    changes.factor = std::strtof(argv[6], nullptr);
  }
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  if (kind == "packed") cllm::register_packed_buffer();
  llama_model_params params = llama_model_default_params();
  ggml_backend_dev_t no_device = nullptr;
  if (kind == "exact" || kind == "rounded") {
    params.use_extra_bufts = false;
    params.devices = &no_device;  // an empty list: on the CPU, whose memory change_product() reads
  }
  llama_model* model = llama_model_load_from_file(argv[1], params);
  if (model == nullptr) return 1;
  llama_context* context =
      llama_init_from_model(model, context_params(std::atoi(argv[2]), std::atoi(argv[3]), kind, changes));
  if (context == nullptr) return 1;
  if (adapts) {
    llama_adapter_lora* adapter = llama_adapter_lora_init(model, argv[5]);  // freed with the model
    float scale = std::strtof(argv[6], nullptr);
    if (adapter == nullptr || llama_set_adapters_lora(context, &adapter, 1, &scale) != 0) return 1;
  }
  batch = llama_batch_init(kBatch, 0, 1);

  std::string line;
  while (std::getline(std::cin, line)) {
    const Request request = read_request(line);
    llama_memory_seq_rm(llama_get_memory(context), 0, -1, -1);
    if (!prefill(context, request) || !(request.forced ? force : answer)(context, request)) return 1;
    std::fflush(stdout);
  }
  llama_batch_free(batch);
  llama_free(context);
  llama_model_free(model);
  llama_backend_free();
  return 0;
}
