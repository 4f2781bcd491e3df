// Holds the logits behind every rollback to those of undisturbed decoding, to the bit: lanes reject drafts at random
// while other lanes decode, are prefilled, forked, cleared or fail.
//
//   cllm-rollback-test MODEL CONTEXT ROUNDS SEED [BLOCKxLANES]...
//
// CONTEXT: tokens of each text; with a sliding window, several times 256, so that the cells come round. ROUNDS: for
// each block size and number of lanes; by default blocks of 2, 3, 4, 8, 16 with 1, 2, 3 lanes each. Prints a line per
// failure; exit code 1 when there was one.

#include "rollback_test.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "llama.h"
#include "llama/packed_buffer.h"

namespace cllm {

int failures = 0;

bool check(bool ok, const std::string& what) {
  if (ok) return true;
  if (failures++ < 20) std::printf("FAILED %s\n", what.c_str());
  std::fflush(stdout);
  return false;
}

namespace {

/// Some of the lanes, in their order.
std::vector<int> some_lanes(World& world) {
  std::vector<int> lanes;
  while (lanes.empty()) {
    for (int lane = 0; lane < world.lanes(); lane++) {
      if (world.pick(0, 2) != 0) lanes.push_back(lane);
    }
  }
  return lanes;
}

void make_room(World& world, int lane, int n) {
  if (world.has_room(lane, n)) return;
  world.clear(lane);
  world.prefill(lane, world.pick(0, world.context().options().context_size - n));
}

void step(World& world, const std::string& name) {
  const int block = world.context().options().block_size;
  const int n = world.pick(0, 2) != 0 ? block : world.pick(2, block);
  const int lane = world.pick(0, world.lanes() - 1);
  const int what = world.pick(0, 99);
  const auto is = [&](const char* kind) { world.name = name + " " + kind; };
  if (what < 8) {
    is("trim");
    world.trim(lane, world.pick(0, world.rows(lane)));
  } else if (what < 14) {
    is("restart");
    world.clear(lane);
    world.prefill(lane, world.pick(0, world.context().options().context_size - n));
  } else if (what < 20) {
    is("prefill");
    make_room(world, lane, 40);
    world.prefill(lane, world.position(lane) + world.pick(1, 40));
  } else if (what < 24 && world.lanes() > 1) {
    is("fork");
    if (world.pick(0, 1) == 0) world.settle(lane);
    world.fork(lane, (lane + world.pick(1, world.lanes() - 1)) % world.lanes());
  } else if (what < 28) {
    is("failure");
    const auto lanes = some_lanes(world);
    for (const int one : lanes) make_room(world, one, n);
    world.pick(0, 1) == 0 ? world.fail(lanes, n) : world.abandon(lanes, n, world.pick(0, 60));
  } else if (what < 36) {
    is("rollback at once");
    world.settle(lane);
  } else {
    is("pass");
    const auto lanes = some_lanes(world);
    std::vector<int> right;
    for (const int one : lanes) {
      make_room(world, one, n);
      right.push_back(world.pick(0, n - 1));
    }
    world.pass(lanes, n, right);
  }
}

/// The test would see nothing if a text's logits did not depend on its earlier tokens, or on how it is read.
void check_texts(const ModelPointer& model, const ContextOptions& options) {
  const auto vocab = static_cast<size_t>(model->info().vocab_size);
  std::mt19937 random(1);
  std::vector<Token> tokens;
  for (int i = 0; i < 100; i++) tokens.push_back(static_cast<Token>(random() % vocab));
  const auto text = read_text(model, options, tokens, 32);
  check(text->logits == read_text(model, options, tokens, options.block_size)->logits, "blocks of any size");
  const size_t changed = tokens.size() / 2;
  tokens[changed] = static_cast<Token>((static_cast<size_t>(tokens[changed]) + 1) % vocab);
  const auto other = read_text(model, options, tokens, 32);
  int differ = 0;
  for (size_t i = changed; i < changed + 16; i++) {
    differ += std::memcmp(&text->logits[i * vocab], &other->logits[i * vocab], vocab * sizeof(float)) != 0;
  }
  // Attention with sharp weights may overlook a token.
  check(differ >= 12, "logits depend on a token before them in " + std::to_string(differ) + " of 16 places");
}

struct Shape {
  int block, lanes;
};

int run(const ModelPointer& model, int context_size, int rounds, unsigned seed, std::span<const Shape> shapes) {
  int exact = 0, lost = 0;
  ContextOptions options;
  options.context_size = context_size;
  for (const auto& [block, lanes] : shapes) {
    options.block_size = block;
    options.lanes = lanes;
    options.runner = seed % 2 == 0 ? "host" : "auto";  // without the resident runner's plane, and with it
    check_texts(model, options);
    World world(model, options, seed++);
    const std::string name = std::to_string(lanes) + " lanes, blocks of " + std::to_string(block);
    cases(world);
    for (int round = 0; round < rounds && failures < 20; round++) {
      step(world, name + ", round " + std::to_string(round));
    }
    exact += world.exact;
    lost += world.lost;
  }
  check(exact > 0, "lanes have gone back");
  std::printf("%d rollbacks, %d lanes that lost their rows, %d failures\n", exact, lost, failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace

}  // namespace cllm

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  cllm::install_ggml_guard();
  llama_backend_init();
  cllm::register_packed_buffer();
  std::vector<cllm::Shape> shapes;
  for (int i = 5; i < argc; i++) {
    cllm::Shape shape{};
    if (std::sscanf(argv[i], "%dx%d", &shape.block, &shape.lanes) != 2) return 2;
    shapes.push_back(shape);
  }
  for (const int block : {2, 3, 4, 8, 16}) {
    for (const int lanes : {1, 2, 3}) {
      if (argc == 5) shapes.push_back({block, lanes});
    }
  }
  try {
    const auto model = std::make_shared<const cllm::Model>(argv[1], cllm::LoadOptions{}, [](float) { return true; });
    return cllm::run(model, std::stoi(argv[2]), std::stoi(argv[3]), static_cast<unsigned>(std::stoul(argv[4])), shapes);
  } catch (const cllm::Error& error) {
    std::printf("FAILED %s: %s\n", error.code().c_str(), error.what());
    return 1;
  }
}
