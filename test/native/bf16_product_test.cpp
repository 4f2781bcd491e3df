// Tests of BF16 products, which run on AMX where the CPU has it (CLLM_AMX=off forbids it).

#include "products/bf16_product.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "unit_test.h"

namespace {

float from_bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

/// Leaves NaNs on the stack, where a padding that was not zeroed would find them.
__attribute__((noinline)) void soil_stack() {
  volatile unsigned char bytes[1 << 15];
  for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = i % 2 == 0 ? 0xff : 0x7f;
}

}  // namespace

// Compares with a plain loop. Any number of columns, and panels together or one by one, must give the same bits.
void test_bf16_product() {
  if (!cllm::has_bf16_product()) return;
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  for (const int64_t k : {2, 30, 34, 64, 576, 1030}) {
    const int64_t pairs = k / 2, max_columns = 37;
    std::vector<uint16_t> rows(64 * k), columns(max_columns * k);
    for (auto* all : {&rows, &columns}) {
      for (auto& value : *all) {
        const float number = normal(random);
        cllm::round_to_bf16(&number, &value, 1);
      }
    }
    for (const int registers : {1, 2}) {
      const int64_t panel = registers * cllm::kPanelLanes, panels = 64 / panel, outputs = 64;
      std::vector<uint32_t> packed(pairs * outputs);
      for (int64_t i = 0; i < panels; i++) {
        cllm::pack_panel(rows.data() + i * panel * k, k * 2, registers, pairs, packed.data() + i * pairs * panel);
      }
      std::vector<float> all(max_columns * outputs);
      const auto multiply = [&](int64_t first, int64_t count, int64_t columns_, float* c, bool add) {
        soil_stack();
        cllm::panel_product(packed.data() + first * pairs * panel, registers, count, pairs, columns.data(), k * 2,
                            columns_, c, outputs, add);
      };
      multiply(0, panels, max_columns, all.data(), false);
      bool right = true, same = true, added = true;
      for (int64_t j = 0; j < max_columns; j++) {
        for (int64_t r = 0; r < outputs; r++) {
          double sum = 0;
          for (int64_t i = 0; i < k; i++) sum += double(from_bf16(rows[r * k + i])) * from_bf16(columns[j * k + i]);
          right = right && std::abs(sum - all[j * outputs + r]) < 1e-4 * std::sqrt(static_cast<double>(k));
        }
      }
      for (int64_t count = 1; count <= max_columns; count++) {
        std::vector<float> some(count * outputs), apart(count * outputs), twice(count * outputs, 3.0f);
        multiply(0, panels, count, some.data(), false);
        for (int64_t i = 0; i < panels; i++) multiply(i, 1, count, apart.data() + i * panel, false);
        same = same && std::memcmp(some.data(), all.data(), some.size() * sizeof(float)) == 0 && some == apart;
        multiply(0, panels, count, twice.data(), true);
        for (size_t i = 0; i < twice.size(); i++) added = added && std::abs(twice[i] - some[i] - 3) < 1e-3;
      }
      check(right, "bf16 product k=" + std::to_string(k));
      check(same, "bf16 product: every number of columns and panels, k=" + std::to_string(k));
      check(added, "bf16 product: added to what was there, k=" + std::to_string(k));
    }
  }
}
