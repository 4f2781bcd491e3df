#pragma once

// Checks of device_test.cpp, one file for each group. A check compares the kernels of this build's own device with the
// CPU's, on the data of many cases, and reports one line.

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>

#include "kernels/device.h"

namespace cllm {

/// --quick: fewer and smaller cases, for tools that make programs slow.
extern bool quick;

/// Prints the result of a check: "ok", or the failure if it is not empty.
void report(const std::string& name, const std::string& failure);

constexpr int kLogitKinds = 8;
/// Fills a row with logits of kind 0 <= kind < kLogitKinds. Each kind finds other bugs: ties, signed zeros, infinities,
/// NaN.
void fill(float* row, int64_t vocab, int kind, std::mt19937& random);

void check_choose();
void check_planted();
void check_sampling();
void check_loops(const std::string& name, bool transposed, bool f16);
/// `make` makes a device that records `kind`.
void check_recorded(const std::string& name, const std::function<std::unique_ptr<KernelDevice>()>& make, Recorded kind);

/// Bytes per second of a copy within device memory, read and written bytes together; 0 on the CPU (device_bench.cpp).
double bandwidth();
/// Prints the times of the kernels as JSON and returns the exit code (device_bench.cpp).
int run_device_bench();

}  // namespace cllm
