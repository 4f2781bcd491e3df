// Tests of the choice of the number of threads, on made-up machines.

#include "decode/thread_governor.h"

#include <functional>
#include <string>

#include "unit_test.h"

namespace {

/// Milliseconds of a pass of one token with so many threads.
using Machine = std::function<double(int threads)>;

/// Runs passes for so many milliseconds and returns the time that they would have taken at the machine's best, over the
/// time that they took.
double share_of_best(cllm::ThreadGovernor& governor, int most, const Machine& machine, double milliseconds) {
  double best = machine(1), spent = 0, needed = 0;
  for (int threads = 2; threads <= most; threads++) best = std::min(best, machine(threads));
  for (int pass = 0; spent < milliseconds; pass++) {
    const int size = pass % 5 == 4 ? 8 : 1;  // passes of two sizes
    const double of_size = size == 8 ? 2.5 : 1;
    const double time = machine(governor.threads()) * of_size;
    governor.observe(size, time);
    spent += time;
    needed += best * of_size;
  }
  return needed / spent;
}

/// A machine whose threads share the work, while `others` programs each take every second slice of one of its cores.
Machine machine_of(int cores, int others) {
  return [=](int threads) {
    const double work = 0.4 + 4.0 / threads;
    return threads + others > cores ? 3 * work : work;
  };
}

/// A quiet machine on which one pass in a hundred is held up for long, and the first pass after a change of threads
/// takes longer because threads wake.
void test_hiccups() {
  cllm::ThreadGovernor governor(2);
  double milliseconds = 0, with_all = 0;
  int before = 2;
  for (int pass = 0; pass < 100000; pass++) {
    const int threads = governor.threads();
    double time = threads == 2 ? 0.13 : 0.23;
    if (threads > before) time += 0.4;
    before = threads;
    milliseconds += time;
    if (threads == 2) with_all += time;
    governor.observe(1, pass % 1000 == 999 ? time + 14 : time);
  }
  check(with_all > 0.93 * milliseconds,
        "thread governor: all threads for " + std::to_string(with_all / milliseconds) + " of the time, with hiccups");
}

}  // namespace

void test_thread_governor() {
  for (const int cores : {2, 4, 16}) {
    cllm::ThreadGovernor governor(cores);
    const auto name = [&](const char* phase) {
      return "thread governor, " + std::to_string(cores) + " cores: " + phase;
    };
    check(share_of_best(governor, cores, machine_of(cores, 0), 10000) > 0.97, name("quiet"));
    check(share_of_best(governor, cores, machine_of(cores, 1), 10000) > 0.88, name("beside one program"));
    check(share_of_best(governor, cores, machine_of(cores, cores / 2), 20000) > 0.85, name("beside many"));
    check(share_of_best(governor, cores, machine_of(cores, 0), 20000) > 0.75, name("quiet again"));
  }
  test_hiccups();
  cllm::ThreadGovernor fixed(4), single(1);
  fixed.use_all();
  share_of_best(fixed, 4, machine_of(4, 3), 1000);
  check(fixed.threads() == 4, "thread governor: fixed");
  cllm::ThreadGovernor many(32, 2);
  check(many.threads() == 2, "thread governor: begins with the cores that there are");
  many.use_all();
  check(many.threads() == 32, "thread governor: fixed, with more threads than cores");
  share_of_best(single, 1, machine_of(2, 1), 1000);
  check(single.threads() == 1, "thread governor: a single thread");
}
