#pragma once

#include <memory>
#include <vector>

#include "kernels/advance.h"

struct llama_context;
class llama_kv_cache;

namespace cllm {

/// The KV rows of layers with sliding-window attention, in a cache that has cells for the window and a pass only.
///
/// Position p has cell p modulo the number of cells, always: attention adds up the cells in their order, so a row's
/// logits depend on nothing but its position. llama.cpp fills its cells in this order too, until a lane goes back after
/// the cells have come round; then it looks for cells from a place of its own choice. So before each pass this class
/// brings llama.cpp's bookkeeping to where the lane is.
class WindowRows {
 public:
  /// Null where the context has no such cache: no layers with a window, or a cache with cells for the whole context, or
  /// a memory of a kind that this class does not know.
  static std::unique_ptr<WindowRows> of(llama_context* context, int lanes);

  /// Tokens that a lane can go back in any case once its cells have come round.
  int max_rollback() const;
  /// Whether all rows are there that the lane's next pass sees if it begins at `position`.
  bool holds(int lane, int position) const;
  /// Notes that rows of the lane's positions up to `end` have been written.
  void taken(int lane, int end);
  void cleared(int lane) { first_held_[static_cast<size_t>(lane)] = 0; }
  void copied(int from, int to) { first_held_[static_cast<size_t>(to)] = first_held_[static_cast<size_t>(from)]; }
  /// Makes llama_decode put the lane's rows from `position` on into their cells. The lane has no rows behind it.
  void place_next(int lane, int position);

 private:
  WindowRows(llama_kv_cache& cache, Window window, int lanes);
  bool in_place(int lane, int position) const;

  llama_kv_cache& cache_;
  Window window_;
  std::vector<int> first_held_;  // of each lane: the rows of earlier positions are gone
};

}  // namespace cllm
