// Tests of products with weights of 16 bits, with every instruction set that the CPU has.

#include "products/half_product.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "product_sets_test.h"
#include "unit_test.h"

namespace {

constexpr int64_t kPanels = 3, kRows = kPanels * cllm::kHalfRows, kMaxColumns = 101;

float from_bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

/// Compares with a plain loop. Any number of columns, and panels together or one by one, must give the same bits, and
/// so must all sets.
void test_size(cllm::HalfFormat format, int64_t k, std::mt19937& random) {
  const auto value_of = format == cllm::HalfFormat::kF16 ? from_f16 : from_bf16;
  std::normal_distribution<float> normal;
  std::vector<uint16_t> rows(kRows * k);
  for (auto& bits : rows) {
    const auto exponent = format == cllm::HalfFormat::kF16 ? (12 + random() % 4) << 10 : (124 + random() % 4) << 7;
    bits = static_cast<uint16_t>((random() & 1) << 15 | exponent | (random() & 0x7f));
  }
  std::vector<float> x(kMaxColumns * k);
  for (auto& value : x) value = normal(random);
  std::vector<char> packed(kPanels * cllm::half_panel_bytes(k));
  for (int64_t i = 0; i < kPanels; i++) {
    cllm::pack_halves(format, rows.data() + i * cllm::kHalfRows * k, k * 2, k,
                      packed.data() + i * cllm::half_panel_bytes(k));
  }
  std::vector<float> of_all_sets;
  for (const cllm::ProductSet* set : tested_sets()) {
    const std::string name = std::string(set->name) + ": half product k=" + std::to_string(k);
    const auto multiply = [&](int64_t first, int64_t panels, int64_t columns, float* c) {
      set->half_product(format, packed.data() + first * cllm::half_panel_bytes(k), panels, k, x.data(), k * 4, columns,
                        c + first * cllm::kHalfRows, kRows);
    };
    std::vector<float> all(kMaxColumns * kRows);
    multiply(0, kPanels, kMaxColumns, all.data());
    bool right = true, same = true;
    for (int64_t j = 0; j < kMaxColumns; j++) {
      for (int64_t r = 0; r < kRows; r++) {
        double sum = 0, sizes = 0;
        for (int64_t i = 0; i < k; i++) {
          const double product = double(value_of(rows[r * k + i])) * x[j * k + i];
          sum += product;
          sizes += std::abs(product);
        }
        right = right && std::abs(sum - all[j * kRows + r]) <= 1e-6 * sizes;
      }
    }
    for (int64_t count = 1; count <= kMaxColumns; count += count < 30 ? 1 : 7) {
      std::vector<float> some(count * kRows), apart(count * kRows);
      multiply(0, kPanels, count, some.data());
      for (int64_t i = 0; i < kPanels; i++) multiply(i, 1, count, apart.data());
      same = same && std::memcmp(some.data(), all.data(), some.size() * sizeof(float)) == 0 && some == apart;
    }
    if (of_all_sets.empty()) of_all_sets = all;
    check(right, name);
    check(same, name + ": every number of columns and panels");
    check(std::memcmp(of_all_sets.data(), all.data(), all.size() * sizeof(float)) == 0,
          name + ": the same bits as with other instruction sets");
  }
}

}  // namespace

void test_half_product() {
  std::mt19937 random(8);
  for (const int64_t k : {2, 30, 64, 576, 1030}) {
    for (const auto format : {cllm::HalfFormat::kF16, cllm::HalfFormat::kBf16}) test_size(format, k, random);
  }
}
