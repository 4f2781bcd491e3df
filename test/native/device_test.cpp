// Compares the kernels of this build's own device with the CPU's, by ==. In the CUDA build these are the kernels of
// cuda/ on the GPU; elsewhere the CPU's kernels are compared with themselves, which tests this program. It prints one
// line per check; the exit code is 1 on a failure.
//
//   cllm-device-test [--quick] [--only choose,sampling,loop,recorded]
//                                     checks; --quick is for compute-sanitizer
//   cllm-device-test --bench          figures as JSON, after the checks (device_bench.cpp)
//   cllm-device-test --bandwidth      GB/s that a copy within the device reaches, and nothing else; 0 on the CPU
#include "device_test.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/device.h"

namespace cllm {

bool quick = false;

namespace {

int failures = 0;

struct Group {
  std::string_view name;
  std::function<void()> check;
};

std::vector<Group> groups() {
  std::vector<Group> all = {
      {"choose", check_choose},
      {"sampling", check_sampling},
      {"choose", check_planted},
      {"loop", [] { check_loops("loop, V in rows, mask f16", false, true); }},
      {"loop", [] { check_loops("loop, V transposed, mask f32", true, false); }},
  };
#if defined(CLLM_CUDA) || defined(CLLM_CUDA_HARNESS)
  for (const auto& [name, kind] :
       {std::pair("recorded iterations", Recorded::kIteration), std::pair("recorded loops", Recorded::kLoop)}) {
    all.push_back({"recorded", [name = name, kind = kind] {
                     check_recorded(
                         name, [kind] { return make_cuda_device(nullptr, kind); }, kind);
                   }});
  }
#endif
  return all;
}

int run(std::string_view only, bool benches) {
  std::printf("device %s\n", make_device()->name());
  for (const Group& group : groups()) {
    if (only.empty() || only.find(group.name) != std::string_view::npos) group.check();
  }
  if (failures > 0) return 1;
  return benches ? run_device_bench() : 0;
}

}  // namespace

void report(const std::string& name, const std::string& failure) {
  if (failure.empty()) {
    std::printf("ok %s\n", name.c_str());
  } else {
    failures++;
    std::printf("FAILED %s: %s\n", name.c_str(), failure.c_str());
    if (quick) std::exit(1);
  }
  std::fflush(stdout);
}

}  // namespace cllm

int main(int argc, char** argv) {
  bool benches = false, bandwidth = false;
  std::string_view only;
  for (int i = 1; i < argc; i++) {
    if (std::string(argv[i]) == "--only" && i + 1 < argc) only = argv[++i];
    if (std::string(argv[i]) == "--quick") cllm::quick = true;
    if (std::string(argv[i]) == "--bench") benches = true;
    if (std::string(argv[i]) == "--bandwidth") bandwidth = true;
  }
  try {
    if (bandwidth) {
      std::printf("%.0f\n", cllm::bandwidth() / 1e9);
      return 0;
    }
    return cllm::run(only, benches);
  } catch (const std::exception& error) {
    std::printf("FAILED %s\n", error.what());
    return 1;
  }
}
