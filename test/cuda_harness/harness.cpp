#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "cuda_runtime.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_harness {

namespace {

constexpr size_t kStack = 32 * 1024;
constexpr size_t kResidentBlocks = 6;  // blocks that run at the same time
constexpr unsigned char kPoison = 0xA5;

struct Block;

/// A thread of a kernel.
struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStack);
  Block* block = nullptr;
  dim3 index;
  unsigned number = 0;  // in the block
  bool done = false;
  bool waiting = false;  // at a barrier or in a warp operation
};

struct Warp {
  unsigned alive = 0;
  unsigned arrived = 0;
  const char* operation = nullptr;
  uint64_t values[32] = {};
  uint64_t result[32] = {};
};

struct Block {
  dim3 index;
  std::vector<Fiber*> fibers;
  std::vector<Warp> warps;
  std::map<const void*, std::vector<std::max_align_t>> memory;
  unsigned alive = 0;
  unsigned at_barrier = 0;
};

// A test runs in many orders: CLLM_HARNESS_SEED.
uint64_t seed() {
  const char* value = std::getenv("CLLM_HARNESS_SEED");
  return value == nullptr ? 1 : std::strtoull(value, nullptr, 10);
}
std::mt19937_64 random_order(seed());
std::vector<std::unique_ptr<Fiber>> pool;  // unused fibers, whose stacks are kept
std::vector<Fiber*> runnable;
Fiber* current = nullptr;
ucontext_t scheduler;
const std::function<void()>* kernel = nullptr;

[[noreturn]] void fail(const char* what) {
  std::printf("FAILED cuda harness: block (%u, %u, %u), thread %u: %s\n", blockIdx.x, blockIdx.y, blockIdx.z,
              current != nullptr ? current->number : 0, what);
  std::fflush(stdout);
  std::_Exit(1);
}

void wake(Fiber* fiber) {
  fiber->waiting = false;
  runnable.push_back(fiber);
}

void pause() { swapcontext(&current->context, &scheduler); }

void release_barrier(Block& block) {
  if (block.at_barrier == 0 || block.at_barrier < block.alive) return;
  block.at_barrier = 0;
  for (Fiber* fiber : block.fibers) {
    if (fiber->waiting) wake(fiber);
  }
}

void enter() {
  (*kernel)();
  Fiber* fiber = current;
  fiber->done = true;
  Block& block = *fiber->block;
  Warp& warp = block.warps[fiber->number / 32];
  if (warp.arrived > 0) fail("ended while its warp waits for it");
  warp.alive--;
  block.alive--;
  release_barrier(block);
  pause();
}

std::unique_ptr<Block> start(dim3 index) {
  auto block = std::make_unique<Block>();
  block->index = index;
  block->alive = blockDim.x;
  block->warps.resize((blockDim.x + 31) / 32);
  for (unsigned t = 0; t < blockDim.x; t++) {
    std::unique_ptr<Fiber> fiber;
    if (pool.empty()) {
      fiber = std::make_unique<Fiber>();
    } else {
      fiber = std::move(pool.back());
      pool.pop_back();
    }
    fiber->block = block.get();
    fiber->number = t;
    fiber->index = dim3(t);
    fiber->done = fiber->waiting = false;
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack.get();
    fiber->context.uc_stack.ss_size = kStack;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, enter, 0);
    block->warps[t / 32].alive++;
    runnable.push_back(fiber.get());
    block->fibers.push_back(fiber.release());
  }
  return block;
}

void finish(Block& block) {
  for (Fiber* fiber : block.fibers) pool.emplace_back(fiber);
}

}  // namespace

void launch(dim3 grid, dim3 block, const std::function<void()>& body) {
  gridDim = grid;
  blockDim = block;
  if (block.y != 1 || block.z != 1) fail("blocks of more than one dimension are not written");
  kernel = &body;
  std::vector<dim3> waiting;
  for (unsigned z = 0; z < grid.z; z++) {
    for (unsigned y = 0; y < grid.y; y++) {
      for (unsigned x = 0; x < grid.x; x++) waiting.emplace_back(x, y, z);
    }
  }
  std::shuffle(waiting.begin(), waiting.end(), random_order);
  std::vector<std::unique_ptr<Block>> resident;
  while (!waiting.empty() || !resident.empty()) {
    while (!waiting.empty() && resident.size() < kResidentBlocks) {
      resident.push_back(start(waiting.back()));
      waiting.pop_back();
    }
    if (runnable.empty()) fail("all threads wait for others: a barrier that some never reach");
    std::swap(runnable[random_order() % runnable.size()], runnable.back());
    current = runnable.back();
    runnable.pop_back();
    threadIdx = current->index;
    blockIdx = current->block->index;
    swapcontext(&scheduler, &current->context);
    Block* ran = current->block;
    if (ran->alive > 0) continue;
    finish(*ran);
    resident.erase(std::find_if(resident.begin(), resident.end(), [&](const auto& b) { return b.get() == ran; }));
  }
  current = nullptr;
}

void* shared(const void* place, size_t bytes) {
  auto& memory = current->block->memory[place];
  if (memory.empty()) {
    memory.resize(bytes / sizeof(std::max_align_t) + 1);
    std::memset(memory.data(), kPoison, memory.size() * sizeof(std::max_align_t));
  }
  return memory.data();
}

void sync_threads() {
  Block& block = *current->block;
  if (block.warps[current->number / 32].arrived > 0) fail("at a barrier while its warp waits for it");
  block.at_barrier++;
  current->waiting = true;
  release_barrier(block);
  pause();
}

void yield() {
  wake(current);
  pause();
}

unsigned warp_lane() { return current->number % 32; }

const uint64_t* warp_meet(const char* operation, unsigned mask, uint64_t value) {
  Warp& warp = current->block->warps[current->number / 32];
  if (mask != 0xffffffffu || warp.alive != 32) fail("a warp operation without all 32 threads");
  if (warp.arrived > 0 && std::strcmp(warp.operation, operation) != 0) fail("another warp operation than its warp");
  warp.operation = operation;
  warp.values[warp_lane()] = value;
  current->waiting = true;
  if (++warp.arrived == 32) {
    warp.arrived = 0;
    // A copy: the first to run may come to the next operation before the last has read.
    std::memcpy(warp.result, warp.values, sizeof(warp.result));
    const unsigned first = current->number / 32 * 32;
    for (unsigned lane = 0; lane < 32; lane++) wake(current->block->fibers[first + lane]);
  }
  pause();
  return warp.result;
}

}  // namespace cuda_harness
