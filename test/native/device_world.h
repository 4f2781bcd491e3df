#pragma once

// The data of the device loop on one KernelDevice, for device_test.cpp and device_bench.cpp: made on the host from a
// seed, written to the device, read back whole.

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/device.h"
#include "kernels/draft.h"

namespace cllm {

/// An array in device memory, with the host's copy to fill it from and to read it into.
template <typename T>
class DeviceArray {
 public:
  DeviceArray(KernelDevice& device, std::vector<T> values) : host(std::move(values)), device_(&device) {
    data = static_cast<T*>(device.allocate(host.size() * sizeof(T)));  // exactly: what lies behind is watched
    upload();
  }
  // An empty one has no address to copy from: host.data() may be null.
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

struct WorldOptions {
  PassShape shape;
  int64_t vocab = 64;
  int64_t n_kv = 512;
  int64_t kv_size = 768;
  int64_t v_width = 0;  // V transposed, of this width; 0: rows
  bool mask_f16 = true;
  bool positions = true;  // false: a graph that has no such input
  int32_t first_stream = 0;
  int32_t largest_budget = 60;
  double end_share = 0.02;  // of the vocabulary, end-of-generation tokens; 0: the kernels get no table of them
  int iterations = 1;       // ring slots
  uint64_t seed = 1;
};

/// Everything that verify, roll_forward and advance read and write, in one device's memory. Two worlds with the same
/// options on two devices hold the same values.
class World {
 public:
  World(KernelDevice& device, const WorldOptions& options);

  /// Choices for the next iteration, made from the tokens of `of` (which may be this world): many drafts are accepted.
  std::vector<Token> make_choices(World& of, std::mt19937& random);
  void set_choices(const std::vector<Token>& values) {
    choices.host = values;
    choices.upload();
  }
  /// Verify, roll forward, advance; records go to `slot`.
  void iterate(int slot);
  VerifyArgs verify_args() const;
  RollForwardArgs roll_forward_args() const;
  AdvanceArgs advance_args(int slot) const;
  /// All that the device wrote, but for addresses, as bytes; each part named.
  std::vector<std::pair<const char*, std::vector<char>>> state();
  /// After state(): writes anew, from scratch, the inputs of the lanes that run on. The name of one that differs from
  /// what the iterations made of it, or null.
  const char* rewritten();

  KernelDevice& device;
  WorldOptions options;
  ScratchRows scratch;
  DeviceArray<Token> history, tokens, choices;  // history [lanes, n_kv + 1]
  DeviceArray<int32_t> positions;
  DeviceArray<int64_t> k_rows, v_rows;
  DeviceArray<char> mask;
  DeviceArray<uint8_t> stood, ends;
  DeviceArray<LaneState> lanes;
  DeviceArray<Verdict> verdicts;
  std::vector<DeviceArray<char>> kv;
  std::vector<KvTensor> kv_tensors;
  DeviceArray<KvTensor> kv_table;
  std::vector<int32_t> ring_host;
  int32_t* ring;

 private:
  GraphInputs host_inputs();
  void write_inputs();
};

}  // namespace cllm
