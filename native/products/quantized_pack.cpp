// Packs GGUF's blocks (their structs are in ggml/src/ggml-common.h) into the layout of quantized_layout.h, on every
// CPU.
#include <cstring>

#include "products/quantized_layout.h"

namespace cllm {

namespace {

// Masks for a word of 32 bits, which holds four weights in its bytes.
constexpr uint32_t kNibbles = 0x0f0f0f0f, kBit = 0x01010101, kTwoBits = 0x03030303, kSigns = 0x80808080;

uint32_t word_at(const uint8_t* from, int64_t word) {
  uint32_t value;
  std::memcpy(&value, from + word * 4, 4);
  return value;
}

/// A block of one row in packed form.
struct Block {
  uint32_t words[8];  // kQ8_0 uses eight, the other formats four
  uint32_t high[2];
  uint8_t fine[2];
};

/// F16 values that several blocks of one row share.
struct Scales {
  uint8_t scale[2], min[2] = {};
};

// Reads one block's scale and min. 12 bytes hold eight of each, with 6 bits.
void read_six_bits(const uint8_t* packed, int64_t block, uint8_t (&fine)[2]) {
  if (block < 4) {
    fine[0] = packed[block] & 63;
    fine[1] = packed[block + 4] & 63;
  } else {
    fine[0] = static_cast<uint8_t>((packed[block + 4] & 15) | (packed[block - 4] >> 6 << 4));
    fine[1] = static_cast<uint8_t>((packed[block + 4] >> 4) | (packed[block] >> 6 << 4));
  }
}

// Bytes that BlockLayout::per_scale blocks take in a file, scales included.
int64_t file_bytes(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ4_0: return 18;
    case BlockFormat::kQ4_1: return 20;
    case BlockFormat::kQ5_0: return 22;
    case BlockFormat::kQ5_1: return 24;
    case BlockFormat::kQ8_0: return 34;
    case BlockFormat::kQ4_K: return 144;
    case BlockFormat::kQ5_K: return 176;
    case BlockFormat::kQ6_K: return 210;
  }
  return 0;
}

Scales read_scales(BlockFormat format, const uint8_t* from) {
  Scales scales;
  std::memcpy(scales.scale, from + (format == BlockFormat::kQ6_K ? 208 : 0), 2);
  if (BlockLayout::has_mins(format)) std::memcpy(scales.min, from + 2, 2);
  return scales;
}

Block read_block(BlockFormat format, const uint8_t* from, int64_t block) {
  Block read;
  switch (format) {
    case BlockFormat::kQ4_0:
    case BlockFormat::kQ4_1:  // a byte already holds weights i and 16 + i
      std::memcpy(read.words, from + (format == BlockFormat::kQ4_0 ? 2 : 4), 16);
      break;
    case BlockFormat::kQ5_0:
    case BlockFormat::kQ5_1: {  // the same, and bit i of the word before them is the upper bit of weight i
      const uint8_t* bits = from + (format == BlockFormat::kQ5_0 ? 2 : 4);
      std::memcpy(read.words, bits + 4, 16);
      const uint32_t upper = word_at(bits, 0);
      read.high[0] = 0;
      for (int i = 0; i < 32; i++) read.high[0] |= (upper >> i & 1) << (i % 4 * 8 + i / 4);
      break;
    }
    case BlockFormat::kQ8_0:
      for (int i = 0; i < 8; i++) read.words[i] = word_at(from + 2, i) ^ kSigns;  // + 128
      break;
    case BlockFormat::kQ4_K:    // a byte holds weight i of two blocks
    case BlockFormat::kQ5_K: {  // and bit b of the byte i before them is the upper bit of weight i of block b
      const bool five = format == BlockFormat::kQ5_K;
      const uint8_t* quants = from + (five ? 48 : 16) + block / 2 * 32;
      const auto shift = static_cast<int>(block % 2 * 4);
      const auto four = [&](int i) { return word_at(quants, i) >> shift & kNibbles; };
      for (int i = 0; i < 4; i++) read.words[i] = four(i) | four(i + 4) << 4;
      read_six_bits(from + 4, block, read.fine);
      read.high[0] = 0;
      for (int i = 0; five && i < 8; i++) read.high[0] |= (word_at(from + 16, i) >> block & kBit) << i;
      break;
    }
    case BlockFormat::kQ6_K: {  // the low four bits of 128 weights lie together, and so do the upper two
      const int64_t part = block / 4, quarter = block % 4;
      const uint8_t *low = from + part * 64 + quarter % 2 * 32, *high = from + 128 + part * 32;
      const auto four = [&](int i) { return word_at(low, i) >> quarter / 2 * 4 & kNibbles; };
      const auto two = [&](int i) { return word_at(high, i) >> 2 * quarter & kTwoBits; };
      for (int i = 0; i < 4; i++) read.words[i] = four(i) | four(i + 4) << 4;
      for (int h = 0; h < 2; h++) {
        read.high[h] = two(4 * h) | two(4 * h + 1) << 2 | two(4 * h + 2) << 4 | two(4 * h + 3) << 6;
      }
      std::memcpy(read.fine, from + 192 + 2 * block, 2);
      break;
    }
  }
  return read;
}

}  // namespace

int64_t block_multiple(BlockFormat format) { return BlockLayout::is_k(format) ? kBlocksOfSuperblock : 1; }

size_t rounded_bytes(BlockFormat format, int64_t blocks) {
  return static_cast<size_t>(RoundedLayout(format, blocks).bytes);
}

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
        const int64_t place = (group * kBlockRows + lane) * BlockLayout::kHalfBytes;
        std::memcpy(target + layout.scales + place, scales.scale, 2);
        if (layout.with_mins) std::memcpy(target + layout.mins + place, scales.min, 2);
      }
      const Block read = read_block(format, source, inner);
      const int64_t at = panel * blocks + block;
      const auto put = [&](int64_t part, int64_t words, const uint32_t* values) {
        for (int64_t i = 0; i < words; i++) {
          std::memcpy(target + part + ((at * words + i) * kBlockRows + lane) * 4, values + i, 4);
        }
      };
      put(0, layout.words, read.words);
      put(layout.high, layout.high_words, read.high);
      if (layout.k_format) {
        for (int64_t f = 0; f < 2; f++) target[layout.fine + (at * 2 + f) * kBlockRows + lane] = read.fine[f];
      }
      if (inner + 1 == layout.per_scale) source += file_bytes(format);
    }
  }
}

}  // namespace cllm
