#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "llama.h"
#include "rollback_test.h"

namespace cllm {

namespace {

constexpr int kChunk = 32;  // tokens of a prefill pass

std::vector<Token> random_text(std::mt19937& random, int count, int64_t vocab) {
  std::vector<Token> tokens;
  for (int i = 0; i < count; i++) tokens.push_back(static_cast<Token>(random() % static_cast<uint64_t>(vocab)));
  return tokens;
}

}  // namespace

std::shared_ptr<const Text> read_text(const ModelPointer& model, const ContextOptions& options,
                                      std::vector<Token> tokens, int block) {
  ContextOptions with_block = options;
  with_block.block_size = std::max(options.block_size, block);
  Context context(model, with_block);
  const auto vocab = static_cast<size_t>(model->info().vocab_size);
  auto text = std::make_shared<Text>();
  text->tokens = std::move(tokens);
  const int size = static_cast<int>(text->tokens.size());
  for (int first = 0; first < size;) {
    // No block of one token: llama.cpp computes it by other kernels.
    const int count = size - first - block == 1 ? block - 1 : std::min(block, size - first);
    const LaneTokens lane{0, first,
                          std::span(text->tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(count))};
    if (context.decode({&lane, 1}, true) != PassResult::kOk) throw Error("TEST", "a text cannot be read");
    text->logits.insert(text->logits.end(), context.logits(), context.logits() + static_cast<size_t>(count) * vocab);
    first += count;
  }
  return text;
}

World::World(const ModelPointer& model, const ContextOptions& options, unsigned seed)
    : model_(model), context_(model, options), random_(seed), books_(static_cast<size_t>(options.lanes)) {
  for (Book& book : books_) {
    book.text = read_text(model, options, random_text(random_, options.context_size, model->info().vocab_size), kChunk);
  }
}

int World::pick(int lowest, int highest) {
  return lowest + static_cast<int>(random_() % static_cast<unsigned>(highest - lowest + 1));
}

std::string World::where(int lane) const {
  return name + ", lane " + std::to_string(lane) + " at " + std::to_string(position(lane));
}

// What Context promises: a lane goes back over what a block may have of rejected drafts. Where there are no states and
// no ring of rows, it goes back as far as one likes.
bool World::must_hold(int lane, int keep) const {
  const Book& book = books_[static_cast<size_t>(lane)];
  const int most = context_.max_rollback();
  if (keep >= rows(lane)) return keep == rows(lane);
  if (most < 0) return true;
  const ModelMemory& memory = context_.model_memory();
  if (memory.max_rollback < 0) return book.furthest <= most + memory.window || book.furthest - keep <= most;
  const bool once_only = model_->info().architecture == "deepseek4";
  return keep > book.first && book.end - keep <= most && !(once_only && book.gone_back);
}

void World::trim(int lane, int keep) {
  Book& book = books_[static_cast<size_t>(lane)];
  const bool must = must_hold(lane, keep);
  const int before = rows(lane);
  if (keep >= before) keep = before;
  const int kept = context_.trim(lane, keep);
  check(kept == rows(lane), where(lane) + ": trim() returns the rows that remain");
  check(kept == keep || (kept == 0 && !must), where(lane) + ": from " + std::to_string(before) + " back to " +
                                                  std::to_string(keep) + ", not " + std::to_string(kept));
  if (kept < before) {
    kept == keep ? exact++ : lost++;
    book.gone_back = true;
  }
  book.position = std::min(book.position, kept);
  if (kept == 0) book.first = book.end = book.furthest = 0;
}

void World::settle(int lane) { trim(lane, position(lane)); }

void World::clear(int lane) {
  context_.trim(lane, 0);
  const auto text = books_[static_cast<size_t>(lane)].text;
  books_[static_cast<size_t>(lane)] = {.text = text};
}

void World::passed(int lane, int count) {
  Book& book = books_[static_cast<size_t>(lane)];
  book.first = book.position;
  book.end = book.position + count;
  book.furthest = std::max(book.furthest, book.end);
  book.gone_back = false;
}

// As Engine: a lone token gets a dummy behind it.
void World::prefill(int lane, int position) {
  Book& book = books_[static_cast<size_t>(lane)];
  settle(lane);
  while (book.position < position) {
    const int count = std::min(kChunk, position - book.position);
    std::vector<Token> tokens(book.text->tokens.begin() + book.position,
                              book.text->tokens.begin() + book.position + count);
    if (count == 1) tokens.push_back(tokens[0]);
    const LaneTokens pass{lane, book.position, tokens};
    if (!check(context_.decode({&pass, 1}, false) == PassResult::kOk, where(lane) + ": prefill")) return;
    passed(lane, static_cast<int>(tokens.size()));
    book.position += count;
    if (count == 1) settle(lane);
  }
}

std::vector<Token> World::block(int lane, int n, int right) {
  const Book& book = books_[static_cast<size_t>(lane)];
  const int vocab = model_->info().vocab_size;
  std::vector<Token> tokens;
  for (int j = 0; j < n; j++) {
    const Token token = book.text->tokens[static_cast<size_t>(book.position + j)];
    tokens.push_back(j <= right ? token : (token + pick(1, vocab - 1)) % vocab);
  }
  return tokens;
}

// The result points into block_tokens_.
std::vector<LaneTokens> World::blocks(std::span<const int> lanes, int n, std::span<const int> right) {
  std::vector<LaneTokens> blocks;
  block_tokens_.clear();
  for (size_t i = 0; i < lanes.size(); i++) block_tokens_.push_back(block(lanes[i], n, right[i]));
  for (size_t i = 0; i < lanes.size(); i++) blocks.push_back({lanes[i], position(lanes[i]), block_tokens_[i]});
  return blocks;
}

void World::pass(std::span<const int> lanes, int n, std::span<const int> right) {
  for (const int lane : lanes) {
    const int position = this->position(lane);
    settle(lane);
    if (this->position(lane) != position) prefill(lane, position);
  }
  if (!check(context_.decode(blocks(lanes, n, right), true) == PassResult::kOk, name + ": a pass")) return;
  compare(lanes, n, right);
}

// Compares the rows of the right tokens, and accepts them.
void World::compare(std::span<const int> lanes, int n, std::span<const int> right) {
  const auto vocab = static_cast<size_t>(model_->info().vocab_size);
  const float* logits = context_.logits();
  for (size_t i = 0; i < lanes.size(); i++) {
    Book& book = books_[static_cast<size_t>(lanes[i])];
    for (int j = 0; j <= right[i]; j++) {
      const float* ours = logits + (i * static_cast<size_t>(n) + static_cast<size_t>(j)) * vocab;
      const float* theirs = &book.text->logits[static_cast<size_t>(book.position + j) * vocab];
      const std::string slot = where(lanes[i]) + ", slot " + std::to_string(j);
      check(std::isfinite(ours[0]) && std::memcmp(ours, theirs, vocab * sizeof(float)) == 0,
            slot + ": logits of undisturbed decoding");
    }
    passed(lanes[i], n);
    book.position += right[i] + 1;
  }
}

void World::fork(int from, int to) {
  const Book& source = books_[static_cast<size_t>(from)];
  Book& copy = books_[static_cast<size_t>(to)];
  context_.copy(from, to);
  check(rows(to) == rows(from) || (rows(to) == 0 && model_->info().architecture == "deepseek4"),
        where(from) + ": a copy holds the same rows");
  std::vector<Token> tokens = source.text->tokens;
  const int vocab = model_->info().vocab_size;
  for (size_t i = static_cast<size_t>(source.position) + 1; i < tokens.size(); i++) tokens[i] = pick(0, vocab - 1);
  copy = source;
  copy.text = read_text(model_, context_.options(), std::move(tokens), kChunk);
  copy.position = std::min(copy.position, rows(to));
  copy.first = rows(to) - 1;  // a copy of a state cannot go back
  copy.end = rows(to);
}

void World::check_gone(std::span<const int> lanes) {
  for (const int lane : lanes) {
    check(rows(lane) == 0, where(lane) + ": a failed pass leaves nothing");
    const auto text = books_[static_cast<size_t>(lane)].text;
    books_[static_cast<size_t>(lane)] = {.text = text};
  }
}

void World::fail(std::span<const int> lanes, int n) {
  for (const int lane : lanes) settle(lane);
  const std::vector<int> right(lanes.size(), n - 1);
  const auto passes = blocks(lanes, n, right);
  block_tokens_.back().back() = model_->info().vocab_size;
  check(context_.decode(passes, true) == PassResult::kFailed, name + ": a pass with a token that does not exist");
  check_gone(lanes);
}

void World::abandon(std::span<const int> lanes, int n, int nodes) {
  for (const int lane : lanes) settle(lane);
  const std::vector<int> right(lanes.size(), n - 1);
  llama_set_abort_callback(
      context_.handle(), [](void* left) { return (*static_cast<int*>(left))-- == 0; }, &nodes);
  const PassResult result = context_.decode(blocks(lanes, n, right), true);
  llama_set_abort_callback(context_.handle(), nullptr, nullptr);
  if (result == PassResult::kOk) return compare(lanes, n, right);  // it has fewer nodes
  check(result == PassResult::kAborted, name + ": an abandoned pass");
  check_gone(lanes);
}

}  // namespace cllm
