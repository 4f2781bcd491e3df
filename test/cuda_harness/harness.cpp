#undef _FORTIFY_SOURCE  // its longjmp refuses to switch to another stack

#include <setjmp.h>
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
constexpr size_t kGuard = 1024;        // poisoned bytes behind a shared array
// One in this many pauses at atomics and fences lasts until no other fiber can run. So all other blocks may run between
// two such operations of a block.
constexpr uint64_t kLongPause = 4;

struct Block;

/// A thread of a kernel.
struct Fiber {
  ucontext_t start;  // used until the fiber has begun, then `resume`
  jmp_buf resume;
  bool begun = false;
  std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStack);
  Block* block = nullptr;
  dim3 index;
  unsigned number = 0;   // index of the thread in its block
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

// CLLM_HARNESS_SEED, by which a test chooses the order of threads.
uint64_t seed() {
  const char* value = std::getenv("CLLM_HARNESS_SEED");
  return value == nullptr ? 1 : std::strtoull(value, nullptr, 10);
}
std::mt19937_64 random_order(seed());
std::vector<std::unique_ptr<Fiber>> pool;  // unused fibers, kept for their stacks
std::vector<Fiber*> runnable, delayed;
Fiber* current = nullptr;
jmp_buf scheduler;
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

// Fibers switch by _setjmp and _longjmp, because swapcontext makes two system calls for the signal mask.
void pause() {
  if (_setjmp(current->resume) == 0) _longjmp(scheduler, 1);
}

void run(Fiber* fiber) {
  current = fiber;
  threadIdx = fiber->index;
  blockIdx = fiber->block->index;
  if (_setjmp(scheduler) != 0) return;
  if (fiber->begun) _longjmp(fiber->resume, 1);
  fiber->begun = true;
  setcontext(&fiber->start);
}

void release_barrier(Block& block) {
  if (block.at_barrier == 0 || block.at_barrier < block.alive) return;
  block.at_barrier = 0;
  for (Fiber* fiber : block.fibers) {
    if (fiber->waiting) wake(fiber);
  }
}

/// The body of a fiber, which serves as a thread of one block after another.
void enter() {
  for (;;) {
    (*kernel)();
    Block& block = *current->block;
    Warp& warp = block.warps[current->number / 32];
    if (warp.arrived > 0) fail("ended while its warp waits for it");
    warp.alive--;
    block.alive--;
    release_barrier(block);
    pause();
  }
}

std::unique_ptr<Fiber> unused_fiber() {
  if (!pool.empty()) {
    auto fiber = std::move(pool.back());
    pool.pop_back();
    return fiber;
  }
  auto fiber = std::make_unique<Fiber>();
  getcontext(&fiber->start);
  fiber->start.uc_stack.ss_sp = fiber->stack.get();
  fiber->start.uc_stack.ss_size = kStack;
  fiber->start.uc_link = nullptr;
  makecontext(&fiber->start, enter, 0);
  return fiber;
}

std::unique_ptr<Block> start(dim3 index) {
  auto block = std::make_unique<Block>();
  block->index = index;
  block->alive = blockDim.x;
  block->warps.resize((blockDim.x + 31) / 32);
  for (unsigned t = 0; t < blockDim.x; t++) {
    std::unique_ptr<Fiber> fiber = unused_fiber();
    fiber->block = block.get();
    fiber->number = t;
    fiber->index = dim3(t);
    fiber->waiting = false;
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
  if (block.y != 1 || block.z != 1) fail("blocks of more than one dimension are not supported");
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
    auto& ready = runnable.empty() ? delayed : runnable;
    if (ready.empty()) fail("all threads wait for others: a barrier that some never reach");
    std::swap(ready[random_order() % ready.size()], ready.back());
    Fiber* next = ready.back();
    ready.pop_back();
    run(next);
    Block* ran = next->block;
    if (ran->alive > 0) continue;
    finish(*ran);
    resident.erase(std::find_if(resident.begin(), resident.end(), [&](const auto& b) { return b.get() == ran; }));
  }
  current = nullptr;
}

void* shared(const void* place, size_t bytes) {
  auto& memory = current->block->memory[place];
  if (memory.empty()) {
    memory.resize((bytes + kGuard) / sizeof(std::max_align_t) + 1);
    // The poison is either huge for a key, index or token, or small, like values that another block may have left.
    const bool huge = random_order() % 2 != 0;
    auto* words = reinterpret_cast<uint32_t*>(memory.data());
    const size_t count = memory.size() * sizeof(std::max_align_t) / sizeof(uint32_t);
    for (size_t i = 0; i < count; i++) words[i] = huge ? 0xA5A5A5A5u : static_cast<uint32_t>(random_order() % 64);
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
  (random_order() % kLongPause == 0 ? delayed : runnable).push_back(current);
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
    // The values are copied, because the first thread to run may reach the next operation before the last has read
    // them.
    std::memcpy(warp.result, warp.values, sizeof(warp.result));
    const unsigned first = current->number / 32 * 32;
    for (unsigned lane = 0; lane < 32; lane++) wake(current->block->fibers[first + lane]);
  }
  pause();
  return warp.result;
}

}  // namespace cuda_harness
