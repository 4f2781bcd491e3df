#pragma once

#include <cstdint>
#include <map>
#include <utility>

namespace cllm {

/// Chooses how many of a decoder's threads the next pass uses. Threads wait for each other after each operation of a
/// graph. Where another program takes a core for a while, all of them wait for the thread that has lost it, and fewer
/// threads, each with a core of its own, are faster. So the governor tries other numbers from time to time and keeps
/// what takes less time. Trials in vain become rarer, up to one in two seconds.
///
/// Where passes take twice as long as they once did, it takes half of the threads without a trial: two decoders that
/// share the cores would disturb each other's trials.
///
/// Passes of different sizes are comparable by their time over the usual time of their size.
class ThreadGovernor {
 public:
  /// `threads`: how many there are, at least 1. `cores`: how many of them can run at a time, as far as that is known,
  /// else 0. It never tries more than these.
  explicit ThreadGovernor(int threads, int cores = 0)
      : threads_(threads), most_(cores > 0 && cores < threads ? cores : threads), current_(most_) {}
  /// Makes it use all threads for good.
  void use_all() {
    fixed_ = true;
    current_ = threads_;
  }

  int threads() const { return trial_ > 0 ? trial_ : current_; }
  /// Notes that a pass took so long with threads(). Passes of one `size`, such as their number of tokens, cost about
  /// the same.
  void observe(int64_t size, double milliseconds);

 private:
  /// Passes of one number of threads, until there are enough for a comparison.
  struct Window {
    double milliseconds = 0, usual = 0, best = 0;
    int passes = 0;
    bool complete() const;
    double cost() const { return milliseconds / usual; }
  };
  void start_trial();
  void end_trial();

  const int threads_, most_;
  bool fixed_ = false;
  int current_;
  int trial_ = 0;              // number of threads on trial, 0: none
  int disturbed_windows_ = 0;  // in a row
  bool waking_ = false;        // the next pass wakes threads that have slept, so it does not count
  int next_candidate_ = 0;
  std::map<int64_t, double> usual_;                 // milliseconds of a pass, by its tokens
  std::map<std::pair<int64_t, int>, double> best_;  // the least milliseconds of a pass, by its tokens and threads
  Window window_;
  double cost_ = 1, last_cost_ = 1;  // the less of the last two complete windows of the current number, and the last
  double since_trial_ = 0;           // milliseconds
  double interval_ = 0;              // milliseconds between trials, 0: not yet set
};

}  // namespace cllm
