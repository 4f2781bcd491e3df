// Compares the kernels of this build's own device with the CPU's, by ==. In the CUDA build these are the kernels of
// cuda/ on the GPU; elsewhere the CPU's kernels are compared with themselves, which tests this program. It prints one
// line per check; the exit code is 1 on a failure.
//
//   cllm-device-test [--quick]        checks; --quick is for compute-sanitizer
//   cllm-device-test --bench          figures as JSON, after the checks (device_bench.cpp)
#include "device_test.h"

#include <cstdio>

#include "kernels/device.h"

namespace cllm {

bool quick = false;

namespace {

int failures = 0;

int run(bool benches) {
  std::printf("device %s\n", make_device()->name());
  check_choose();
  check_sampling();
  check_planted();
  check_loops("loop, V in rows, mask f16", false, true);
  check_loops("loop, V transposed, mask f32", true, false);
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
  }
  std::fflush(stdout);
}

}  // namespace cllm

int main(int argc, char** argv) {
  bool benches = false;
  for (int i = 1; i < argc; i++) {
    if (std::string(argv[i]) == "--quick") cllm::quick = true;
    if (std::string(argv[i]) == "--bench") benches = true;
  }
  try {
    return cllm::run(benches);
  } catch (const std::exception& error) {
    std::printf("FAILED %s\n", error.what());
    return 1;
  }
}
