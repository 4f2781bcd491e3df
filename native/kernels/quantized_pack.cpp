// Packing: GGUF's blocks (ggml/src/ggml-common.h has their structs) to the layout of quantized_layout.h.
#include <cstring>

#include "kernels/quantized_layout.h"

namespace cllm {

namespace {

/// A block of one row, taken apart.
struct Block {
  uint8_t quants[kBlockWeights];  // without a sign
  uint8_t fine[2] = {};
};

/// What several blocks of one row share.
struct Scales {
  uint8_t scale[2], min[2] = {};  // F16
};

// 12 bytes hold eight scales and eight mins of 6 bits.
void six_bits(const uint8_t* packed, int64_t block, uint8_t (&fine)[2]) {
  if (block < 4) {
    fine[0] = packed[block] & 63;
    fine[1] = packed[block + 4] & 63;
  } else {
    fine[0] = static_cast<uint8_t>((packed[block + 4] & 15) | (packed[block - 4] >> 6 << 4));
    fine[1] = static_cast<uint8_t>((packed[block + 4] >> 4) | (packed[block] >> 6 << 4));
  }
}

// Bytes of `per_scale` blocks in a file, scales included.
int64_t file_bytes(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ4_0: return 18;
    case BlockFormat::kQ4_1: return 20;
    case BlockFormat::kQ8_0: return 34;
    case BlockFormat::kQ4_K: return 144;
    case BlockFormat::kQ6_K: return 210;
  }
  return 0;
}

Scales read_scales(BlockFormat format, const uint8_t* from) {
  Scales scales;
  std::memcpy(scales.scale, from + (format == BlockFormat::kQ6_K ? 208 : 0), 2);
  if (format == BlockFormat::kQ4_1 || format == BlockFormat::kQ4_K) std::memcpy(scales.min, from + 2, 2);
  return scales;
}

Block read_block(BlockFormat format, const uint8_t* from, int64_t block) {
  Block read;
  for (int64_t i = 0; i < kBlockWeights; i++) {
    const int64_t half = i / 16, place = i % 16;
    switch (format) {
      case BlockFormat::kQ4_0: read.quants[i] = from[2 + place] >> 4 * half & 15; break;
      case BlockFormat::kQ4_1: read.quants[i] = from[4 + place] >> 4 * half & 15; break;
      case BlockFormat::kQ8_0: read.quants[i] = from[2 + i] ^ 0x80; break;  // + 128
      case BlockFormat::kQ4_K: read.quants[i] = from[16 + block / 2 * 32 + i] >> block % 2 * 4 & 15; break;
      case BlockFormat::kQ6_K: {  // low four bits, then upper two, of 128 weights at a time
        const int64_t part = block / 4, quarter = block % 4;
        const int low = from[part * 64 + quarter % 2 * 32 + i] >> quarter / 2 * 4 & 15;
        read.quants[i] = static_cast<uint8_t>(low | (from[128 + part * 32 + i] >> 2 * quarter & 3) << 4);
        break;
      }
    }
  }
  if (format == BlockFormat::kQ4_K) six_bits(from + 4, block, read.fine);
  if (format == BlockFormat::kQ6_K) std::memcpy(read.fine, from + 192 + 2 * block, 2);
  return read;
}

}  // namespace

int64_t block_multiple(BlockFormat format) { return BlockLayout::is_k(format) ? kBlocksOfSuperblock : 1; }

size_t packed_bytes(BlockFormat format, int64_t rows, int64_t blocks) {
  return static_cast<size_t>(BlockLayout(format, rows, blocks).bytes);
}

void pack_blocks(BlockFormat format, const void* from, int64_t rows, int64_t blocks, void* packed) {
  const BlockLayout layout(format, rows, blocks);
  auto* target = static_cast<uint8_t*>(packed);
  const auto* source = static_cast<const uint8_t*>(from);
  for (int64_t row = 0; row < rows; row++) {
    const int64_t panel = row / kBlockRows, lane = row % kBlockRows;
    for (int64_t block = 0; block < blocks; block++) {
      const int64_t inner = block % layout.per_scale,
                    group = panel * (blocks / layout.per_scale) + block / layout.per_scale;
      if (inner == 0) {
        const Scales scales = read_scales(format, source);
        const int64_t place = (group * kBlockRows + lane) * BlockLayout::kHalf;
        std::memcpy(target + layout.scales + place, scales.scale, 2);
        if (layout.has_mins) std::memcpy(target + layout.mins + place, scales.min, 2);
      }
      const Block read = read_block(format, source, inner);
      const int64_t at = panel * blocks + block;
      for (int64_t i = 0; i < kBlockWeights; i++) {
        const int64_t word = i / 4, byte = i % 4;
        const auto place = [&](int64_t of) { return ((at * layout.words + of) * kBlockRows + lane) * 4 + byte; };
        if (layout.words == 8) {
          target[place(word)] = read.quants[i];
          continue;
        }
        uint8_t& nibbles = target[place(word % 4)];
        nibbles = static_cast<uint8_t>(word < 4 ? read.quants[i] & 15 : nibbles | read.quants[i] << 4);
        if (format != BlockFormat::kQ6_K) continue;
        uint8_t& high = target[layout.high + ((at * 2 + word / 4) * kBlockRows + lane) * 4 + byte];
        const int bits = read.quants[i] >> 4 << word % 4 * 2;
        high = static_cast<uint8_t>(word % 4 == 0 ? bits : high | bits);
      }
      if (layout.k_format) {
        for (int64_t f = 0; f < 2; f++) target[layout.fine + (at * 2 + f) * kBlockRows + lane] = read.fine[f];
      }
      if (inner + 1 == layout.per_scale) source += file_bytes(format);
    }
  }
}

}  // namespace cllm
