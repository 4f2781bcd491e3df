#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

// Shared by the units of cllm-unit-test (unit_test.cpp): the check, and the test function of each unit, one per file.

/// Counts a failure, and prints it, unless `ok`.
void check(bool ok, const std::string& what);

void test_attention();
void test_bf16_product();
void test_block_chooser();
void test_choose();
void test_context_failure();
void test_delta_net();
void test_draft_candidates();
void test_half_product();
void test_lane();
void test_quantized_product();
void test_stop_rule();
void test_text_stream();
void test_thread_governor();

inline float from_f16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float value = std::ldexp(static_cast<float>(fraction + (exponent != 0 ? 1024 : 0)), std::max(exponent, 1) - 25);
  return (bits & 0x8000) != 0 ? -value : value;
}
