// The traps of rolling back, each by itself: exact logits afterwards, or a lane that says that it has lost its rows.

#include <numeric>

#include "rollback_test.h"

namespace cllm {

namespace {

/// Passes over every lane, so that whatever is wrong with any of them shows.
void pass_all(World& world, int n) {
  for (int lane = 0; lane < world.lanes(); lane++) {
    if (!world.has_room(lane, n)) world.clear(lane);
    world.pass(lane, n, n - 1);
  }
}

void go_back(World& world, int n) {
  const int block = world.context().options().block_size;
  for (int keep = -2; keep <= n; keep++) {
    world.name = "back to " + std::to_string(keep) + " of a block of " + std::to_string(n);
    world.clear(0);
    world.prefill(0, 41);
    world.pass(0, n, n - 1);
    world.trim(0, 41 + keep);
    world.pass(0, n, 0);
  }
  for (int keep = 1; keep < n; keep++) {
    world.name = "back twice, to " + std::to_string(keep) + " of a block of " + std::to_string(n);
    world.clear(0);
    world.prefill(0, 41);
    world.pass(0, n, n - 1);
    world.trim(0, 41 + keep);
    world.trim(0, 41 + keep - 1);
    world.pass(0, n, 0);
    world.trim(0, world.position(0) - 1);
    world.pass(0, n, n - 1);
  }
  for (const int count : {1, 2, block, block + 1, 20, 31}) {
    world.name = "back by " + std::to_string(count) + " of a chunk";
    world.clear(0);
    world.prefill(0, 64);
    world.trim(0, 64 - count);
    world.pass(0, n, n - 1);
  }
}

/// Lane 0 goes back before or after what the others do meanwhile.
void others_meanwhile(World& world, int n) {
  const int lanes = world.lanes();
  for (const bool at_once : {true, false}) {
    for (int what = 0; what < 4; what++) {
      world.name = std::string("back ") + (at_once ? "before" : "after") + " the others' work " + std::to_string(what);
      for (int lane = 0; lane < lanes; lane++) {
        world.clear(lane);
        world.prefill(lane, 33 + lane);
      }
      std::vector<int> all(static_cast<size_t>(lanes));
      std::iota(all.begin(), all.end(), 0);
      const std::vector<int> none(all.size(), 0);
      world.pass(all, n, none);
      if (at_once) world.settle(0);
      const std::vector<int> others(all.begin() + 1, all.end());
      if (what == 0) world.pass(others, n, std::vector<int>(others.size(), n - 1));
      if (what == 1) world.pass(lanes - 1, n, 0);
      if (what == 2) {
        world.clear(lanes - 1);
        world.prefill(lanes - 1, 50);
      }
      if (what == 3) world.fork(1, lanes - 1);
      // Lanes that are no neighbours, where there are three.
      const int outer[] = {0, lanes - 1}, right[] = {0, n - 1};
      world.pass(outer, n, right);
      pass_all(world, n);
    }
  }
}

void forks(World& world, int n) {
  for (int state = 0; state < 5; state++) {
    world.name = "fork of a lane in state " + std::to_string(state);
    for (int lane = 0; lane < 2; lane++) world.clear(lane);
    if (state != 0) world.prefill(0, 37);     // 0: empty, 1: prefilled
    if (state >= 2) world.pass(0, n, n / 2);  // 2: rejected drafts are still there
    if (state >= 3) world.settle(0);          // 3: a rollback is pending
    if (state == 4) world.pass(0, n, n - 1);  // 4: nothing to roll back
    world.prefill(1, 20);
    world.fork(0, 1);
    world.pass(1, n, 0);
    world.pass(0, n, n - 1);
    pass_all(world, n);
    world.fork(1, 0);  // a copy of a copy
    pass_all(world, n);
  }
}

void failed_passes(World& world, int n) {
  for (int nodes = -1; nodes < 40; nodes += 6) {
    world.name = nodes < 0 ? "a failed pass" : "a pass abandoned at node " + std::to_string(nodes);
    for (int lane = 0; lane < world.lanes(); lane++) {
      world.clear(lane);
      world.prefill(lane, 10 + lane);
    }
    pass_all(world, n);
    world.pass(0, n, 0);
    world.settle(0);
    const int last = world.lanes() - 1;
    const int lanes[] = {0, last};
    const std::span<const int> some(lanes, last == 0 ? 1 : 2);
    nodes < 0 ? world.fail(some, n) : world.abandon(some, n, nodes);
    pass_all(world, n);
  }
}

/// The ring of rows comes round, and the lane starts again at odd places.
void windows(World& world, int n) {
  const ModelMemory& memory = world.context().model_memory();
  const int size = world.context().options().context_size;
  const int window = memory.window;
  for (const int position : {size - 3 * n, size / 2 + 1, 2 * window + 1}) {
    for (const int back :
         {1, n, window - 1, window, window + 1, 2 * window, 256 - window, 257 - window, position - 3}) {
      if (back >= position) continue;
      world.name = "ring: " + std::to_string(back) + " back from " + std::to_string(position);
      world.clear(0);
      world.prefill(0, position);
      world.trim(0, position - back);
      world.pass(0, n, n - 1);
      world.pass(0, n, n / 2);
      world.pass(0, n, 0);
    }
  }
}

/// Blocks that are rejected in part where the cells come round: at this place llama.cpp would look for others.
void ring_borders(World& world, int n) {
  const int ring = world.context().max_rollback() + world.context().model_memory().window;
  for (int border = ring; border + 60 < world.context().options().context_size; border += ring) {
    for (int start = border - n; start < border; start++) {
      world.name = "border of the ring at " + std::to_string(border) + ", from " + std::to_string(start);
      world.clear(0);
      world.prefill(0, start);
      // What is rejected leaves free cells at both ends.
      for (int i = 0; i < 3; i++) world.pass(0, n, 0);
      while (world.position(0) < border + 30) world.pass(0, n, n - 1);
      world.trim(0, border - 2);
      while (world.position(0) < border + 30) world.pass(0, n, n - 1);
    }
    if (world.lanes() == 1) continue;
    world.name = "fork behind the border at " + std::to_string(border);
    world.clear(1);
    world.prefill(1, border - 2);
    world.pass(1, n, n - 1);
    world.fork(0, 1);
    for (const int back : {ring - 10, 30}) {
      world.prefill(1, border + 30);
      world.trim(1, world.position(1) - back);
      world.pass(1, n, n - 1);
      world.pass(0, n, n - 1);
    }
  }
}

}  // namespace

void cases(World& world) {
  const int block = world.context().options().block_size;
  go_back(world, block);
  if (world.lanes() > 1) others_meanwhile(world, block);
  if (world.lanes() > 1) forks(world, block);
  failed_passes(world, block);
  const bool ring = !world.context().options().swa_full && world.context().model_memory().window > 0;
  if (ring && world.lanes() == 1) windows(world, block);
  if (ring && world.context().states() == nullptr) ring_borders(world, block);
}

}  // namespace cllm
