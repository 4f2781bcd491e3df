#pragma once

// Shared by the files of cllm-rollback-test (rollback_test.cpp).

#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "decode/context.h"

namespace cllm {

extern int failures;

/// Counts a failure, and prints it, unless `ok`. Returns `ok`.
bool check(bool ok, const std::string& what);

using ModelPointer = std::shared_ptr<const Model>;

/// A text and the logits behind each of its tokens, [tokens, vocab], from a context of its own that read it from
/// beginning to end.
struct Text {
  std::vector<Token> tokens;
  std::vector<float> logits;
};
/// Reads the tokens in blocks of `block`.
std::shared_ptr<const Text> read_text(const ModelPointer& model, const ContextOptions& options,
                                      std::vector<Token> tokens, int block);

/// A context, and what each of its lanes must hold. Passes are blocks of a lane's text in which the drafts are wrong
/// from some slot on. The logits of all rows in front of it must be those of the text, to the bit.
class World {
 public:
  /// All lanes get texts of options.context_size tokens, and hold nothing.
  World(const ModelPointer& model, const ContextOptions& options, unsigned seed);

  Context& context() { return context_; }
  int lanes() const { return context_.options().lanes; }
  int position(int lane) const { return books_[static_cast<size_t>(lane)].position; }
  int rows(int lane) const { return context_.rows(lane); }
  /// Whether the lane's text has room for `count` tokens more.
  bool has_room(int lane, int count) const { return position(lane) + count <= context_.options().context_size; }
  int pick(int lowest, int highest);

  /// Runs a pass of blocks of n tokens; the first right[i] drafts of lanes[i] are right. A lane that cannot go back to
  /// its position is read again first. What was accepted stays; the rest is rolled back when the lane is used next.
  void pass(std::span<const int> lanes, int n, std::span<const int> right);
  void pass(int lane, int n, int right) { pass({&lane, 1}, n, {&right, 1}); }
  /// Rolls the lane back to its position now, as Engine and runners do when they trim a lane.
  void settle(int lane);
  /// Reads the lane's text up to `position` in chunks, without logits.
  void prefill(int lane, int position);
  /// Takes the lane back to `keep` tokens, or to none where its memory cannot do that.
  void trim(int lane, int keep);
  void clear(int lane);
  /// Makes `to` a copy of `from`, with a text of its own behind the tokens that they share.
  void fork(int from, int to);
  /// A pass over the lanes that fails: by a token that does not exist, or abandoned at its node number `nodes`.
  void fail(std::span<const int> lanes, int n);
  void abandon(std::span<const int> lanes, int n, int nodes);

  std::string name;  // of what is going on, for messages
  int exact = 0;     // times that a lane has gone back, and times that it has lost its rows instead
  int lost = 0;

 private:
  struct Book {
    std::shared_ptr<const Text> text;
    int position = 0;        // tokens that are confirmed; the next pass begins here
    int first = 0, end = 0;  // positions of the last pass
    int furthest = 0;        // end of all passes since the lane was cleared
    bool gone_back = false;  // since its last pass
  };
  bool must_hold(int lane, int keep) const;
  std::vector<Token> block(int lane, int n, int right);
  std::vector<LaneTokens> blocks(std::span<const int> lanes, int n, std::span<const int> right);
  void compare(std::span<const int> lanes, int n, std::span<const int> right);
  void passed(int lane, int count);
  void check_gone(std::span<const int> lanes);
  std::string where(int lane) const;

  ModelPointer model_;
  Context context_;
  std::mt19937 random_;
  std::vector<Book> books_;
  std::vector<std::vector<Token>> block_tokens_;
};

/// Each trap by itself (rollback_cases_test.cpp).
void cases(World& world);

}  // namespace cllm
