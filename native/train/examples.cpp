#include "train/examples.h"

#include <algorithm>
#include <numeric>

namespace cllm {

namespace {

// An example joins a group if the group keeps at least this share of its prefix. Within one schema only the question
// differs, from its first words on; between two schemas nearly everything differs.
constexpr double kMinSharedPrefix = 0.6;
constexpr int64_t kMinPrefix = 8;

int64_t common_prefix(const std::vector<int32_t>& a, int64_t limit, const std::vector<int32_t>& b) {
  const int64_t end = std::min<int64_t>(limit, static_cast<int64_t>(b.size()) - 1);
  int64_t length = 0;
  while (length < end && a[length] == b[length]) length++;
  return length;
}

template <typename T>
void shuffle(std::vector<T>& values, uint64_t seed, uint64_t stream) {
  for (size_t i = values.size(); i > 1; i--) std::swap(values[i - 1], values[hash_of(seed, stream, i) % i]);
}

}  // namespace

uint64_t hash_of(uint64_t seed, uint64_t a, uint64_t b) {
  uint64_t z = seed;
  for (const uint64_t part : {a, b}) {  // splitmix64
    z = z * 0x9E3779B97F4A7C15ull + part + 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
  }
  return z;
}

Packer::Packer(const std::vector<Example>& examples) : examples_(examples) {
  std::vector<int32_t> order(examples.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return examples[a].prompt < examples[b].prompt; });
  for (const int32_t index : order) {
    const auto& prompt = examples[index].prompt;
    if (!groups_.empty()) {
      Group& group = groups_.back();
      const auto& first = examples[group.members.front()].prompt;
      // The second member decides how long the prefix is; later ones can only shorten it.
      const bool alone = group.members.size() == 1;
      const int64_t common = common_prefix(first, group.prefix, prompt);
      const double prefix = static_cast<double>(alone ? std::min<size_t>(first.size(), prompt.size()) : group.prefix);
      if (common >= kMinPrefix && static_cast<double>(common) >= kMinSharedPrefix * prefix) {
        group.prefix = static_cast<int32_t>(common);
        group.members.push_back(index);
        continue;
      }
      if (alone) group.prefix = 0;
    }
    groups_.push_back({static_cast<int32_t>(prompt.size()) - 1, {index}});
  }
  if (!groups_.empty() && groups_.back().members.size() == 1) groups_.back().prefix = 0;
}

std::vector<PackedRow> Packer::epoch(const PackLimits& limits, uint64_t seed, uint64_t epoch) const {
  std::vector<int32_t> order(groups_.size());
  std::iota(order.begin(), order.end(), 0);
  shuffle(order, seed, epoch * 3);
  std::vector<PackedRow> rows;
  PackedRow row;
  int64_t length = 0, labels = 0;
  const auto close = [&] {
    if (!row.empty()) rows.push_back(std::move(row));
    row.clear();
    length = labels = 0;
  };
  for (const int32_t index : order) {
    const Group& group = groups_[index];
    auto members = group.members;
    shuffle(members, hash_of(seed, epoch, 1), static_cast<uint64_t>(index));
    bool leads = true;
    for (const int32_t member : members) {
      const Example& example = examples_[member];
      const auto answer = static_cast<int64_t>(example.answer.size());
      const int64_t unshared = example.size() - group.prefix;
      if (length + unshared + (leads ? group.prefix : 0) > limits.length || labels + answer > limits.labels) {
        close();
        leads = true;
      }
      length += unshared + (leads ? group.prefix : 0);
      labels += answer;
      row.push_back({member, group.prefix, leads});
      leads = false;
    }
  }
  close();
  shuffle(rows, seed, epoch * 3 + 2);
  return rows;
}

}  // namespace cllm
