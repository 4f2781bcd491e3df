// Tests of products with weights in block formats, with every instruction set that the CPU has.

#include "products/quantized_product.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "product_sets_test.h"
#include "unit_test.h"

namespace {

constexpr int64_t kRows = 48;
constexpr int64_t kColumns = 37;

/// Rows of random blocks as they lie in a GGUF file, and their values.
struct QuantizedRows {
  std::vector<uint8_t> bytes;
  std::vector<float> values;  // [rows, k]
};

class RowMaker {
 public:
  explicit RowMaker(std::mt19937& random) : random_(random) {}

  /// A block of a format with one scale.
  void block(cllm::BlockFormat format) {
    using cllm::BlockFormat;
    const bool five = format == BlockFormat::kQ5_0 || format == BlockFormat::kQ5_1;
    const bool nibbles = format != BlockFormat::kQ8_0;
    const float scale = half(), min = format == BlockFormat::kQ4_1 || format == BlockFormat::kQ5_1 ? half() : 0;
    std::vector<int> quants(32);
    for (auto& q : quants) q = five ? quant(32) : nibbles ? quant(16) : largest ? 127 : quant(256);
    for (int i = 0; five && i < 32; i += 8) {
      int bits = 0;
      for (int b = 0; b < 8; b++) bits |= (quants[i + b] >> 4) << b;
      put(bits);
    }
    for (int i = 0; i < (nibbles ? 16 : 32); i++) {
      put(nibbles ? (quants[i] & 15) | (quants[i + 16] & 15) << 4 : quants[i]);
    }
    for (const int q : quants) {
      const int number = format == BlockFormat::kQ4_0   ? q - 8
                         : format == BlockFormat::kQ5_0 ? q - 16
                         : nibbles                      ? q
                                                        : static_cast<int8_t>(q);
      rows.values.push_back(scale * static_cast<float>(number) + min);
    }
  }

  /// Q4_K, or Q5_K with a fifth bit.
  void q45_k(bool five) {
    const float scale = half(), min = half();
    int scales[8], mins[8], quants[256];
    for (auto* list : {scales, mins}) {
      for (int i = 0; i < 8; i++) list[i] = static_cast<int>(random_() % 64);
    }
    for (auto& q : quants) q = quant(five ? 32 : 16);
    for (int i = 0; i < 4; i++) put(scales[i] | scales[i + 4] >> 4 << 6);
    for (int i = 0; i < 4; i++) put(mins[i] | mins[i + 4] >> 4 << 6);
    for (int i = 4; i < 8; i++) put((scales[i] & 15) | (mins[i] & 15) << 4);
    for (int i = 0; five && i < 32; i++) {
      int bits = 0;
      for (int block = 0; block < 8; block++) bits |= (quants[block * 32 + i] >> 4) << block;
      put(bits);
    }
    for (int part = 0; part < 256; part += 64) {
      for (int i = 0; i < 32; i++) put((quants[part + i] & 15) | (quants[part + 32 + i] & 15) << 4);
    }
    for (int i = 0; i < 256; i++) {
      const auto of = [&](const int* list) { return static_cast<float>(list[i / 32]); };
      rows.values.push_back(scale * of(scales) * static_cast<float>(quants[i]) - min * of(mins));
    }
  }

  void q6_k() {
    int quants[256], scales[16];
    for (auto& q : quants) q = quant(64);
    for (auto& s : scales) s = static_cast<int>(random_() % 256) - 128;
    for (int part = 0; part < 256; part += 128) {
      const int* q = quants + part;
      for (int i = 0; i < 64; i++) put((q[i] & 15) | (q[i + 64] & 15) << 4);
    }
    for (int part = 0; part < 256; part += 128) {
      const int* q = quants + part;
      for (int i = 0; i < 32; i++) {
        put(q[i] >> 4 | q[i + 32] >> 4 << 2 | q[i + 64] >> 4 << 4 | q[i + 96] >> 4 << 6);
      }
    }
    for (const int s : scales) put(s);
    const float scale = half();
    for (int i = 0; i < 256; i++) {
      rows.values.push_back(scale * static_cast<float>(scales[i / 16]) * static_cast<float>(quants[i] - 32));
    }
  }

  QuantizedRows rows;
  bool largest = false;  // whether quants are as large as they can be, where sums in few bits would overflow

 private:
  int quant(int range) { return largest ? range - 1 : static_cast<int>(random_() % static_cast<unsigned>(range)); }
  void put(int byte) { rows.bytes.push_back(static_cast<uint8_t>(byte)); }
  float half() {
    const auto bits = static_cast<uint16_t>((random_() & 0x83ff) | (8 + random_() % 4) << 10);
    put(bits & 0xff);
    put(bits >> 8);
    return from_f16(bits);
  }
  std::mt19937& random_;
};

QuantizedRows random_rows(cllm::BlockFormat format, int64_t rows, int64_t blocks, std::mt19937& random) {
  RowMaker maker(random);
  for (int64_t block = 0; block < rows * blocks; block += cllm::block_multiple(format)) {
    maker.largest = block < blocks;  // the first row
    if (format == cllm::BlockFormat::kQ4_K || format == cllm::BlockFormat::kQ5_K) {
      maker.q45_k(format == cllm::BlockFormat::kQ5_K);
    } else if (format == cllm::BlockFormat::kQ6_K) {
      maker.q6_k();
    } else {
      maker.block(format);
    }
  }
  return std::move(maker.rows);
}

/// Rounds a column in plain code: each block of 32 to steps of its largest size / 127.
std::vector<double> rounded_column(const float* x, int64_t k) {
  std::vector<double> column(k);
  for (int64_t i = 0; i < k; i++) {
    const float* block = x + i / 32 * 32;
    float largest = 0;
    std::for_each(block, block + 32, [&](float value) { largest = std::max(largest, std::abs(value)); });
    column[i] = largest > 1e-30f ? double(largest / 127) * std::nearbyint(x[i] * (127 / largest)) : 0;
  }
  return column;
}

/// The largest error of an output, over the sum of the sizes of its terms.
double worst_error(const QuantizedRows& weights, const std::vector<float>& x, const std::vector<float>& products) {
  const auto k = static_cast<int64_t>(x.size()) / kColumns;
  double worst = 0;
  for (int64_t j = 0; j < kColumns; j++) {
    const std::vector<double> column = rounded_column(x.data() + j * k, k);
    for (int64_t r = 0; r < kRows; r++) {
      double sum = 0, sizes = 1e-30;
      for (int64_t i = 0; i < k; i++) {
        sum += column[i] * weights.values[r * k + i];
        sizes += std::abs(column[i] * weights.values[r * k + i]);
      }
      worst = std::max(worst, std::abs(sum - products[j * kRows + r]) / sizes);
    }
  }
  return worst;
}

/// Multiplies the rows [first, end) with so many columns.
using Multiply = std::function<void(int64_t first, int64_t end, int64_t columns, float* c)>;

/// Whether every number of columns and every share of the rows gives the bits of `all`.
bool same_in_shares(const Multiply& multiply, const std::vector<float>& all) {
  bool same = true;
  for (int64_t count = 1; count <= kColumns; count++) {
    std::vector<float> some(count * kRows), shares(count * kRows);
    multiply(0, kRows, count, some.data());
    multiply(0, 16, count, shares.data());
    multiply(16, kRows, count, shares.data());
    same = same && std::memcmp(some.data(), all.data(), some.size() * sizeof(float)) == 0 && some == shares;
  }
  return same;
}

/// Tests one instruction set; `all` receives the products, or must be equal to them where it holds some.
void test_set(const cllm::ProductSet& set, cllm::BlockFormat format, int64_t blocks, const QuantizedRows& weights,
              const std::vector<float>& x, std::vector<float>& of_all_sets) {
  const int64_t k = blocks * 32;
  const std::string name = std::string(set.name) + ": quantised product " + std::to_string(static_cast<int>(format)) +
                           " of " + std::to_string(blocks) + " blocks";
  std::vector<uint8_t> packed(cllm::packed_bytes(format, kRows, blocks));
  check(packed.size() >= weights.bytes.size() && packed.size() * 100 <= weights.bytes.size() * 103, name + ": bytes");
  cllm::pack_blocks(format, weights.bytes.data(), kRows, blocks, packed.data());
  const size_t size = cllm::rounded_bytes(format, blocks);
  std::vector<char> rounded(kColumns * size);
  for (int64_t j = 0; j < kColumns; j++) {
    set.round_to_blocks(format, x.data() + j * k, blocks, rounded.data() + j * size);
  }
  const Multiply multiply = [&](int64_t first, int64_t end, int64_t columns, float* c) {
    set.quantized_product(format, packed.data(), kRows, blocks, first, end, rounded.data(), columns, c, kRows);
  };
  std::vector<float> all(kColumns * kRows);
  multiply(0, kRows, kColumns, all.data());
  // Scales and sums of blocks are F16: half a unit in the last place of either is 1/2048 of it.
  const double worst = worst_error(weights, x, all);
  check(worst < 1.0 / 1024, name + ": right to the precision of an F16 scale and sum, worst " + std::to_string(worst));
  check(same_in_shares(multiply, all), name + ": every number of columns and shares of rows");
  if (of_all_sets.empty()) of_all_sets = all;
  check(std::memcmp(of_all_sets.data(), all.data(), all.size() * sizeof(float)) == 0,
        name + ": the same bits as with other instruction sets");
  for (const float strange : {INFINITY, -INFINITY, NAN}) {
    std::vector<float> column(x.begin(), x.begin() + k);
    column[k - 1] = strange;
    set.round_to_blocks(format, column.data(), blocks, rounded.data());
    std::vector<float> c(2 * kRows);
    multiply(0, kRows, 2, c.data());
    const bool seen = std::all_of(c.begin(), c.begin() + kRows, [](float value) { return std::isnan(value); });
    check(seen && std::equal(c.begin() + kRows, c.end(), all.begin() + kRows), name + ": values that are not finite");
  }
}

void test_format(cllm::BlockFormat format, int64_t blocks, std::mt19937& random) {
  const int64_t k = blocks * 32;
  const QuantizedRows weights = random_rows(format, kRows, blocks, random);
  std::normal_distribution<float> normal;
  std::vector<float> x(kColumns * k), of_all_sets;
  for (auto& value : x) value = normal(random);
  std::fill_n(x.begin() + k, 32, 0.0f);        // a block of zeros
  std::fill_n(x.begin() + 2 * k, 32, 1e-38f);  // a block of numbers that are nearly zero
  std::fill_n(x.begin() + 3 * k, k, 1.0f);     // the largest quants
  std::fill_n(x.begin() + 4 * k, k, -1.0f);
  for (const cllm::ProductSet* set : tested_sets()) {
    test_set(*set, format, blocks, weights, x, of_all_sets);
  }
}

}  // namespace

void test_quantized_product() {
  using cllm::BlockFormat;
  std::mt19937 random(5);
  for (const auto format : {BlockFormat::kQ4_0, BlockFormat::kQ4_1, BlockFormat::kQ5_0, BlockFormat::kQ5_1,
                            BlockFormat::kQ8_0, BlockFormat::kQ4_K, BlockFormat::kQ5_K, BlockFormat::kQ6_K}) {
    for (const int64_t count : {1, 3, 18}) test_format(format, count * cllm::block_multiple(format), random);
  }
}
