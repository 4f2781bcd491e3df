// BF16 matrix products with AMX tiles; see bf16_product_amx.h.
#include "products/bf16_product_amx.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define CLLM_AMX 1
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace cllm {

#ifdef CLLM_AMX

namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kRowBytes = 64;      // a tile row holds 16 pairs or 16 sums
constexpr int64_t kPairsPerStep = 16;  // pairs along k that one instruction consumes
constexpr int64_t kPairBytes = 4;
constexpr int64_t kChunk = 2 * kTileRows;  // columns that are computed together

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

bool detect() {
  const char* choice = std::getenv("CLLM_AMX");
  if (choice != nullptr && std::strcmp(choice, "off") == 0) return false;
  unsigned a, b, c, d;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
  // Linux saves tile registers only for processes that requested them (Documentation/arch/x86/xstate.rst).
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// GCC 12 does not know what tile instructions read and write, so it drops or moves writes to a local variable that only
// they read. This statement makes it assume that all of `memory` is read and written here.
void use_memory(void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

void load_config(TileConfig& config) {
  use_memory(&config);
  _tile_loadconfig(&config);
}

// The thread's tiles: 0 to 3 hold sums, 4 and 5 columns of b, 6 and 7 packed weights. The destructor restores the
// configuration that the thread had before.
class Tiles {
 public:
  Tiles() {
    use_memory(&previous_);
    _tile_storeconfig(&previous_);
    use_memory(&previous_);
  }
  ~Tiles() {
    if (previous_.palette == 0) {
      _tile_release();
    } else {
      load_config(previous_);
    }
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  // `first` is the number of columns in tiles 0, 1 and 4, `second` that in tiles 2, 3 and 5. With `two_panels` tiles 2
  // and 3 hold the sums of a second panel for the first columns instead.
  void configure(int64_t first, int64_t second, bool two_panels) {
    if (first == first_ && second == second_ && two_panels == two_panels_) return;
    first_ = first;
    second_ = second;
    two_panels_ = two_panels;
    TileConfig config;
    const int64_t lower = two_panels ? first : second;
    const int64_t rows[8] = {first, first, lower, lower, first, second, kTileRows, kTileRows};
    for (int i = 0; i < 8; i++) {
      config.rows[i] = static_cast<uint8_t>(rows[i]);
      config.row_bytes[i] = rows[i] == 0 ? 0 : kRowBytes;
    }
    load_config(config);
  }

 private:
  TileConfig previous_;
  int64_t first_ = -1, second_ = -1;
  bool two_panels_ = false;
};

// Copies of the last pairs along k, which do not fill a tile, padded with zeros on both sides of the product: the
// memory behind them may hold NaN, and 0 x NaN is NaN.
struct Tail {
  alignas(64) char columns[kChunk * kRowBytes];
  alignas(64) char weights[4][kTileRows * kRowBytes];
};

void pad_columns(const char* b, size_t stride, int64_t columns, int64_t pairs, Tail& tail) {
  std::memset(tail.columns, 0, sizeof(tail.columns));
  for (int64_t j = 0; j < columns; j++) std::memcpy(tail.columns + j * kRowBytes, b + j * stride, pairs * kPairBytes);
}

void pad_weights(const char* packed, size_t stride, int64_t pairs, char* target) {
  std::memset(target, 0, kTileRows * kRowBytes);
  for (int64_t p = 0; p < pairs; p++) std::memcpy(target + p * kRowBytes, packed + p * stride, kRowBytes);
}

// Multiplies one panel (16 outputs, or 32 with registers == 2) by up to 32 columns: `first` + `second`, each up to 16.
void one_panel(const char* packed, int registers, int64_t pairs, const char* b, size_t b_stride, int64_t first,
               int64_t second, float* c, size_t c_stride, bool add) {
  const size_t a_stride = registers * kRowBytes, c_row_bytes = c_stride * sizeof(float);
  const bool two_registers = registers == 2, two_column_tiles = second > 0;
  float* second_c = c + first * c_stride;
  if (add) {
    _tile_loadd(0, c, c_row_bytes);
    if (two_registers) _tile_loadd(1, c + kTileRows, c_row_bytes);
    if (two_column_tiles) _tile_loadd(2, second_c, c_row_bytes);
    if (two_column_tiles && two_registers) _tile_loadd(3, second_c + kTileRows, c_row_bytes);
  } else {
    _tile_zero(0);
    if (two_registers) _tile_zero(1);
    if (two_column_tiles) _tile_zero(2);
    if (two_column_tiles && two_registers) _tile_zero(3);
  }
  const auto step = [&](const char* columns, size_t column_stride, const char* low, const char* high, size_t stride) {
    _tile_loadd(4, columns, column_stride);
    _tile_loadd(6, low, stride);
    _tile_dpbf16ps(0, 4, 6);
    if (two_registers) {
      _tile_loadd(7, high, stride);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (two_column_tiles) {
      _tile_loadd(5, columns + first * column_stride, column_stride);
      _tile_dpbf16ps(2, 5, 6);
      if (two_registers) _tile_dpbf16ps(3, 5, 7);
    }
  };
  int64_t p = 0;
  for (; p + kPairsPerStep <= pairs; p += kPairsPerStep) {
    const char* weights = packed + p * a_stride;
    step(b + p * kPairBytes, b_stride, weights, weights + kRowBytes, a_stride);
  }
  if (p < pairs) {
    Tail tail;
    pad_columns(b + p * kPairBytes, b_stride, first + second, pairs - p, tail);
    for (int i = 0; i < registers; i++) {
      pad_weights(packed + p * a_stride + i * kRowBytes, a_stride, pairs - p, tail.weights[i]);
    }
    use_memory(&tail);
    step(tail.columns, kRowBytes, tail.weights[0], tail.weights[1], kRowBytes);
  }
  _tile_stored(0, c, c_row_bytes);
  if (two_registers) _tile_stored(1, c + kTileRows, c_row_bytes);
  if (two_column_tiles) _tile_stored(2, second_c, c_row_bytes);
  if (two_column_tiles && two_registers) _tile_stored(3, second_c + kTileRows, c_row_bytes);
}

// Multiplies two panels of 32 outputs each, adjacent in c, by up to 16 columns. The four independent sums hide each
// other's latency.
void two_panels(const char* packed, int64_t pairs, const char* b, size_t b_stride, int64_t columns, float* c,
                size_t c_stride) {
  constexpr size_t kStride = 2 * kRowBytes;
  const size_t c_row_bytes = c_stride * sizeof(float);
  const char* other = packed + pairs * kStride;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const auto step = [&](const char* x, size_t x_stride, const char* const(&weights)[4], size_t stride) {
    _tile_loadd(4, x, x_stride);
    _tile_loadd(6, weights[0], stride);
    _tile_loadd(7, weights[1], stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(6, weights[2], stride);
    _tile_loadd(7, weights[3], stride);
    _tile_dpbf16ps(2, 4, 6);
    _tile_dpbf16ps(3, 4, 7);
  };
  int64_t p = 0;
  for (; p + kPairsPerStep <= pairs; p += kPairsPerStep) {
    const char *low = packed + p * kStride, *high = other + p * kStride;
    step(b + p * kPairBytes, b_stride, {low, low + kRowBytes, high, high + kRowBytes}, kStride);
  }
  if (p < pairs) {
    Tail tail;
    pad_columns(b + p * kPairBytes, b_stride, columns, pairs - p, tail);
    for (int i = 0; i < 4; i++) {
      pad_weights((i < 2 ? packed : other) + p * kStride + i % 2 * kRowBytes, kStride, pairs - p, tail.weights[i]);
    }
    use_memory(&tail);
    step(tail.columns, kRowBytes, {tail.weights[0], tail.weights[1], tail.weights[2], tail.weights[3]}, kRowBytes);
  }
  _tile_stored(0, c, c_row_bytes);
  _tile_stored(1, c + kTileRows, c_row_bytes);
  _tile_stored(2, c + 2 * kTileRows, c_row_bytes);
  _tile_stored(3, c + 3 * kTileRows, c_row_bytes);
}

}  // namespace

bool has_amx() {
  static const bool found = detect();
  return found;
}

void amx_panel_product(const uint32_t* packed, int registers, int64_t panels, int64_t pairs, const void* b,
                       size_t b_stride, int64_t columns, float* c, size_t c_stride, bool add) {
  const auto* weights = reinterpret_cast<const char*>(packed);
  const auto* x = static_cast<const char*>(b);
  const int64_t size = pairs * registers * kRowBytes;
  Tiles tiles;
  int64_t panel = 0;
  if (columns <= kTileRows && registers == 2 && !add) {
    tiles.configure(columns, 0, true);
    for (; panel + 2 <= panels; panel += 2) {
      two_panels(weights + panel * size, pairs, x, b_stride, columns, c + panel * 2 * kTileRows, c_stride);
    }
  }
  for (; panel < panels; panel++) {
    for (int64_t j = 0; j < columns; j += kChunk) {
      const int64_t first = std::min(columns - j, kTileRows), second = std::min(columns - j - first, kTileRows);
      tiles.configure(first, second, false);
      one_panel(weights + panel * size, registers, pairs, x + j * b_stride, b_stride, first, second,
                c + panel * registers * kTileRows + j * c_stride, c_stride, add);
    }
  }
}

#else

bool has_amx() { return false; }
void amx_panel_product(const uint32_t*, int, int64_t, int64_t, const void*, size_t, int64_t, float*, size_t, bool) {}

#endif

}  // namespace cllm
