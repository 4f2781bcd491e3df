// Compares our attention with its definition in double. Each row must have the same bits alone, with other hidden cells
// behind it, and with its cells elsewhere.

#include "products/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "product_sets_test.h"
#include "unit_test.h"

namespace {

constexpr uint16_t kHidden = 0xfc00;  // -inf
constexpr uint16_t kNan = 0x7e00;     // value of cells that no row sees
constexpr float kScale = 0.3f;

/// Random rows and cells of one head.
struct Head {
  size_t size, cells, rows;
  size_t position;             // row r sees cells [0, position + r], but for those that are hidden at random
  std::vector<uint16_t> k, v;  // [cells, size] F16
  std::vector<uint16_t> mask;  // [rows, cells] F16: 0 or kHidden
  std::vector<float> q;        // [rows, size]

  Head(size_t size_, size_t cells_, size_t rows_, std::mt19937& random)
      : size(size_),
        cells(cells_),
        rows(rows_),
        k(cells * size),
        v(cells * size),
        mask(rows * cells, kHidden),
        q(rows * size) {
    std::normal_distribution<float> normal;
    const auto half = [&] {
      return static_cast<uint16_t>((random() % 2 << 15) | ((8 + random() % 8) << 10) | random() % 1024);
    };
    for (auto& x : k) x = half();
    for (auto& x : v) x = half();
    for (auto& x : q) x = normal(random);
    position = random() % (cells - rows + 1);
    const bool first_sees_nothing = rows == 3 && cells == 48;
    for (size_t r = first_sees_nothing ? 1 : 0; r < rows; r++) {
      for (size_t i = 0; i <= position + r; i++) mask[r * cells + i] = i > 0 && random() % 9 == 0 ? kHidden : 0;
    }
    for (size_t i = 0; i < cells; i++) {
      bool seen = false;
      for (size_t r = 0; r < rows; r++) seen = seen || mask[r * cells + i] == 0;
      for (size_t d = 0; d < size && !seen; d++) k[i * size + d] = v[i * size + d] = kNan;
    }
  }
};

cllm::AttentionArgs arguments(const Head& head, std::vector<float>& out) {
  const auto bytes = [](const auto& values) { return reinterpret_cast<const char*>(values.data()); };
  return {.q = bytes(head.q),
          .q_stride = head.size * 4,
          .k = bytes(head.k),
          .k_stride = head.size * 2,
          .v = bytes(head.v),
          .v_stride = head.size * 2,
          .mask = bytes(head.mask),
          .mask_stride = head.cells * 2,
          .out = reinterpret_cast<char*>(out.data()),
          .out_stride = head.size * 4,
          .rows = static_cast<int64_t>(head.rows),
          .cells = static_cast<int64_t>(head.cells),
          .size = static_cast<int64_t>(head.size),
          .scale = kScale};
}

const cllm::ProductSet* tested = nullptr;

void attend(const cllm::AttentionArgs& args) {
  std::vector<float> scratch(cllm::attention_scratch(args.cells, args.size));
  tested->attend(args, scratch.data());
}

/// Computes row r of the output in double.
std::vector<double> attended(const Head& head, size_t r) {
  const auto [size, cells] = std::pair(head.size, head.cells);
  const auto hidden = [&](size_t i) { return head.mask[r * cells + i] != 0; };
  std::vector<double> weights(cells, 0), out(size, 0);
  double largest = -INFINITY, sum = 0;
  for (size_t i = 0; i < cells; i++) {
    if (hidden(i)) continue;
    for (size_t d = 0; d < size; d++) weights[i] += double(head.q[r * size + d]) * from_f16(head.k[i * size + d]);
    largest = std::max(largest, weights[i] * kScale);
  }
  for (size_t i = 0; i < cells; i++) {
    weights[i] = hidden(i) ? 0 : std::exp(weights[i] * kScale - largest);
    sum += weights[i];
  }
  for (size_t i = 0; i < cells; i++) {
    for (size_t d = 0; d < size && weights[i] > 0; d++) out[d] += weights[i] / sum * from_f16(head.v[i * size + d]);
  }
  return out;
}

/// Computes row r by itself, and without the upper half of the cells where all rows hide that half.
std::vector<float> attended_alone(const Head& head, size_t r) {
  std::vector<float> out(head.size);
  cllm::AttentionArgs args = arguments(head, out);
  args.q += r * args.q_stride;
  args.mask += r * args.mask_stride;
  args.rows = 1;
  if (head.position + head.rows <= head.cells / 2 && head.cells % 32 == 0) args.cells /= 2;
  attend(args);
  return out;
}

/// Computes all rows with the cells from `position` on behind a gap, where the cells of a candidate lie.
std::vector<float> attended_behind_gap(const Head& head, size_t gap) {
  Head moved = head;
  moved.cells = (head.cells + gap + 15) / 16 * 16;
  moved.k.assign(moved.cells * head.size, kNan);
  moved.v.assign(moved.cells * head.size, kNan);
  moved.mask.assign(head.rows * moved.cells, kHidden);
  for (size_t i = 0; i < head.cells; i++) {
    const size_t to = i < head.position ? i : i + gap;
    std::copy_n(head.k.begin() + i * head.size, head.size, moved.k.begin() + to * head.size);
    std::copy_n(head.v.begin() + i * head.size, head.size, moved.v.begin() + to * head.size);
    for (size_t r = 0; r < head.rows; r++) moved.mask[r * moved.cells + to] = head.mask[r * head.cells + i];
  }
  std::vector<float> out(head.rows * head.size);
  attend(arguments(moved, out));
  return out;
}

bool equal_bits(const float* a, const std::vector<float>& b) {
  return std::memcmp(a, b.data(), b.size() * sizeof(float)) == 0;
}

/// Tests the set `tested`. `of_all_sets` receives the output, or must be equal to it where it holds one.
void test_head(const Head& head, size_t gap, std::vector<float>& of_all_sets) {
  std::vector<float> out(head.rows * head.size);
  attend(arguments(head, out));
  bool right = true, same = true;
  for (size_t r = 0; r < head.rows; r++) {
    const std::vector<double> expected = attended(head, r);
    for (size_t d = 0; d < head.size; d++) right = right && std::abs(out[r * head.size + d] - expected[d]) < 1e-4;
    same = same && equal_bits(&out[r * head.size], attended_alone(head, r));
  }
  const std::string where = std::string(tested->name) + ", head of " + std::to_string(head.size) + ", " +
                            std::to_string(head.cells) + " cells, " + std::to_string(head.rows) + " rows";
  check(right, "attention: " + where);
  check(same, "attention: rows alone, " + where);
  check(equal_bits(out.data(), attended_behind_gap(head, gap)), "attention: cells elsewhere, " + where);
  if (of_all_sets.empty()) of_all_sets = out;
  check(equal_bits(out.data(), of_all_sets), "attention: the same bits as with other instruction sets, " + where);
}

}  // namespace

void test_attention() {
  std::mt19937 random(6);
  for (const size_t size : {16, 32, 64, 80, 128, 256}) {
    for (const size_t cells : {16, 48, 256, 512}) {
      for (const size_t rows : {1, 2, 3, 4, 7, 16}) {
        const Head head(size, cells, rows, random);
        const size_t gap = 16 * (1 + random() % 2) + random() % 16;
        std::vector<float> of_all_sets;
        for (const cllm::ProductSet* set : tested_sets()) {
          tested = set;
          test_head(head, gap, of_all_sets);
        }
      }
    }
  }
}
