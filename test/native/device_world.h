#pragma once

// The data of the device loop on one KernelDevice, for the checks of device_test.h and for device_bench.cpp. It is made
// on the host from a seed, written to the device and read back as a whole.

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "kernels/draft.h"

namespace cllm {

/// An array in device memory with a copy on the host, from which it is uploaded and into which it is downloaded.
template <typename T>
class DeviceArray {
 public:
  DeviceArray(KernelDevice& device, std::vector<T> values) : host(std::move(values)), device_(&device) {
    // Exactly this size, because devices watch the bytes behind an allocation.
    data = static_cast<T*>(device.allocate(host.size() * sizeof(T)));
    upload();
  }
  // An empty array is not copied, because host.data() may be null.
  void upload() {
    if (!host.empty()) device_->write(data, host.data(), host.size() * sizeof(T));
  }
  const std::vector<T>& download() {
    if (!host.empty()) device_->read(host.data(), data, host.size() * sizeof(T));
    return host;
  }

  T* data = nullptr;
  std::vector<T> host;

 private:
  KernelDevice* device_;
};

/// The arrays of AttentionInputs.
struct AttentionArrays {
  AttentionArrays(KernelDevice& device, const PassShape& shape, const AttentionInputs& sizes);
  AttentionInputs on_host();
  AttentionInputs on_device() const;
  void upload();

  AttentionInputs sizes;
  DeviceArray<int64_t> k_rows, v_rows;
  DeviceArray<char> mask;
};

struct WorldOptions {
  PassShape shape;
  int64_t vocab = 64;
  int64_t n_kv = 512;
  int64_t kv_size = 768;
  int64_t v_width = 0;  // width of a transposed V; 0: V has rows
  bool mask_f16 = true;
  int32_t position_parts = 1;  // 0: the graph has no input for positions
  Window window;               // size 0: no layer has a window
  int64_t window_cells = 0;    // kv_size and n_kv of layers with a window
  bool states = false;         // the model has recurrent layers
  int32_t spare_planes = 1;    // planes of a state beyond those that a pass writes, >= 1; the last is the spare plane
  int32_t first_stream = 0;
  int32_t max_budget = 60;
  double end_share = 0.02;  // share of end-of-generation tokens in the vocabulary; 0: the kernels get no table of them
  int iterations = 1;       // ring slots, and the loop's limit
  uint64_t seed = 1;
};

/// All data that advance, roll_forward and keep_state read and write, in one device's memory. Two worlds with the same
/// options on two devices hold the same values.
class World {
 public:
  World(KernelDevice& device, const WorldOptions& options);

  /// Choices for the next iteration, made from the tokens of `source` (which may be this world) so that many drafts are
  /// accepted.
  std::vector<Token> make_choices(World& source, std::mt19937& random);
  void set_choices(const std::vector<Token>& values) {
    choices.host = values;
    choices.upload();
  }
  /// Runs advance, roll_forward and keep_state, as far as the options need them.
  void iterate();
  RollForwardArgs roll_forward_args() const;
  KeepStateArgs keep_state_args() const;
  AdvanceArgs advance_args() const;
  /// Names and bytes of all arrays that the device wrote, without addresses.
  using State = std::vector<std::pair<const char*, std::vector<char>>>;
  State state();
  /// Call it after state(). The verdict of the record that begins at a word of the ring.
  Verdict verdict_at(size_t word) const;
  /// Call it after state(). Writes the inputs of all lanes that still run as for their first iteration, on the host.
  /// Returns the name of an input that differs from the one that the iterations left, or null.
  const char* input_unlike_first();

  KernelDevice& device;
  WorldOptions options;
  ScratchRows scratch;
  int32_t index_bits;
  DeviceArray<Token> history, tokens, choices;  // history [lanes, n_kv + 1]
  DeviceArray<int32_t> latest, earlier;         // of all lanes' indexes
  DeviceArray<int32_t> positions;
  AttentionArrays full, windowed;
  DeviceArray<int32_t> state_rows;
  DeviceArray<uint8_t> stood, ends;
  DeviceArray<LaneState> lanes;
  DeviceArray<Verdict> verdicts;
  std::vector<DeviceArray<char>> kv;
  std::vector<KvTensor> kv_tensors;
  DeviceArray<KvTensor> kv_table;
  std::vector<DeviceArray<char>> states;
  DeviceArray<StateTensor> state_table;
  std::vector<uint64_t> ring_host;
  uint64_t* ring;
  DeviceArray<LoopState> loop_state;
  Loop loop;

 private:
  GraphInputs host_inputs();
  GraphInputs device_inputs() const;
  GraphInputs inputs_without_arrays() const;
  void write_inputs();
};

/// The first difference between the states of two worlds, or "".
std::string difference_of(const World::State& found, const World::State& expected);

}  // namespace cllm
