#pragma once

#include <memory>
#include <vector>

struct llama_context;
class llama_memory_i;
class llama_memory_recurrent;

namespace cllm {

/// The recurrent states of a context's lanes, and how far each lane can go back.
///
/// A state holds no history, so llama.cpp keeps snapshots (n_rs_seq): a pass leaves the states behind its last tokens
/// in planes of the state tensors, plane d the one d tokens before the pass's end. A lane goes back by an index: its
/// next pass starts from the plane that the index names. llama.cpp itself accepts indices that name planes of an older
/// pass, moves states between cells for the passes of other lanes, and loses the index when a lane is copied, all
/// without an error. So this class decides what a lane may go back to, keeps the state of lane i in cell i for ever
/// (then nothing is ever moved), and copies states itself.
class LaneStates {
 public:
  /// Null where the context's memory has no recurrent part.
  static std::unique_ptr<LaneStates> of(llama_context* context, int lanes);

  /// Notes that a pass has run over the lane's tokens at the positions [first, end).
  void passed(int lane, int first, int end) { moved(lane, first, end, 0); }
  /// Notes that the state behind the lane's first `position` tokens is in plane `plane`, and those behind fewer tokens,
  /// at least first + 1, in the planes that follow.
  void moved(int lane, int first, int position, int plane);
  /// The plane from which the lane's next pass starts.
  int plane(int lane) const { return history_[static_cast<size_t>(lane)].plane; }
  /// Takes the lane back to its first `keep` tokens, keep > 0. Returns false, and changes nothing, unless at least one
  /// token of the lane's last pass remains and there is a snapshot. The attention's rows are the caller's to remove.
  bool roll_back(int lane, int keep);
  /// Call it when the lane's memory has been cleared.
  void cleared(int lane);
  /// Makes lane `to`, which is cleared, a copy of lane `from`, its attention rows included. Returns false, and changes
  /// nothing, where that is impossible.
  bool copy(int from, int to);

 private:
  LaneStates(llama_context* context, int lanes);
  void keep_in_place(int lane);

  struct History {
    int first = 0;     // position at which the lane's last pass began
    int position = 0;  // tokens that the state covers
    int plane = 0;
  };
  llama_memory_recurrent* recurrent_ = nullptr;
  std::vector<llama_memory_i*> attention_;  // the caches beside it
  llama_memory_i* own_ = nullptr;           // deepseek4's memory, which has states of its own kind
  int snapshots_ = 0;                       // planes beside that of the last token
  std::vector<History> history_;
};

}  // namespace cllm
