#include "products/amx_product.h"

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

constexpr int64_t kRows = 16;          // of a tile
constexpr int64_t kRowBytes = 64;      // 16 pairs, or 16 sums
constexpr int64_t kDeepest = 16;       // pairs along k in one instruction
constexpr int64_t kPair = 4;           // bytes
constexpr int64_t kChunk = 2 * kRows;  // columns at a time

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
  // Linux saves the tiles only of processes that have asked (Documentation/arch/x86/xstate.rst).
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// GCC 12 does not know what tile instructions read and write: writes to a local variable that nothing else reads are
// dropped or moved. Whoever has its address may read and write all of it.
void show(void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

void load_config(TileConfig& config) {
  show(&config);
  _tile_loadconfig(&config);
}

// Tiles 0-3: sums. 4, 5: rows of columns. 6, 7: packed weights.
class Tiles {
 public:
  Tiles() {
    show(&before_);
    _tile_storeconfig(&before_);
    show(&before_);
  }
  ~Tiles() {
    if (before_.palette == 0) {
      _tile_release();
    } else {
      load_config(before_);
    }
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  // first: columns of tiles 0, 1 and 4; second: of 2, 3 and 5. `wide`: tiles 2 and 3 belong to another panel instead.
  void configure(int64_t first, int64_t second, bool wide) {
    if (first == first_ && second == second_ && wide == wide_) return;
    first_ = first;
    second_ = second;
    wide_ = wide;
    TileConfig config;
    const int64_t rows[8] = {first, first, wide ? first : second, wide ? first : second, first, second, kRows, kRows};
    for (int i = 0; i < 8; i++) {
      config.rows[i] = static_cast<uint8_t>(rows[i]);
      config.row_bytes[i] = rows[i] == 0 ? 0 : kRowBytes;
    }
    load_config(config);
  }

 private:
  TileConfig before_;
  int64_t first_ = -1, second_ = -1;
  bool wide_ = false;
};

// The last pairs of k where they do not fill a tile, with zeros behind them: 0 x 0, for what lies there may be a NaN.
struct Tail {
  alignas(64) char columns[kChunk * kRowBytes];
  alignas(64) char weights[4][kRows * kRowBytes];
};

void pad_columns(const char* b, size_t stride, int64_t columns, int64_t pairs, Tail& tail) {
  std::memset(tail.columns, 0, sizeof(tail.columns));
  for (int64_t j = 0; j < columns; j++) std::memcpy(tail.columns + j * kRowBytes, b + j * stride, pairs * kPair);
}

void pad_weights(const char* packed, size_t stride, int64_t pairs, char* target) {
  std::memset(target, 0, kRows * kRowBytes);
  for (int64_t p = 0; p < pairs; p++) std::memcpy(target + p * kRowBytes, packed + p * stride, kRowBytes);
}

// One panel, `second` of its 16 outputs too where the panel has 32; up to 32 columns.
void one_panel(const char* packed, int registers, int64_t pairs, const char* b, size_t b_stride, int64_t first,
               int64_t second, float* c, size_t c_stride, bool add) {
  const size_t a_stride = registers * kRowBytes, line = c_stride * sizeof(float);
  const bool both = registers == 2, more = second > 0;
  float* below = c + first * c_stride;
  if (add) {
    _tile_loadd(0, c, line);
    if (both) _tile_loadd(1, c + kRows, line);
    if (more) _tile_loadd(2, below, line);
    if (more && both) _tile_loadd(3, below + kRows, line);
  } else {
    _tile_zero(0);
    if (both) _tile_zero(1);
    if (more) _tile_zero(2);
    if (more && both) _tile_zero(3);
  }
  const auto step = [&](const char* columns, size_t column_stride, const char* low, const char* high, size_t stride) {
    _tile_loadd(4, columns, column_stride);
    _tile_loadd(6, low, stride);
    _tile_dpbf16ps(0, 4, 6);
    if (both) {
      _tile_loadd(7, high, stride);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (more) {
      _tile_loadd(5, columns + first * column_stride, column_stride);
      _tile_dpbf16ps(2, 5, 6);
      if (both) _tile_dpbf16ps(3, 5, 7);
    }
  };
  int64_t p = 0;
  for (; p + kDeepest <= pairs; p += kDeepest) {
    const char* weights = packed + p * a_stride;
    step(b + p * kPair, b_stride, weights, weights + kRowBytes, a_stride);
  }
  if (p < pairs) {
    Tail tail;
    pad_columns(b + p * kPair, b_stride, first + second, pairs - p, tail);
    for (int i = 0; i < registers; i++) {
      pad_weights(packed + p * a_stride + i * kRowBytes, a_stride, pairs - p, tail.weights[i]);
    }
    show(&tail);
    step(tail.columns, kRowBytes, tail.weights[0], tail.weights[1], kRowBytes);
  }
  _tile_stored(0, c, line);
  if (both) _tile_stored(1, c + kRows, line);
  if (more) _tile_stored(2, below, line);
  if (more && both) _tile_stored(3, below + kRows, line);
}

// Two panels of 32 outputs, one behind the other in c, up to 16 columns: four sums at a time, which do not wait for
// each other's latency.
void two_panels(const char* packed, int64_t pairs, const char* b, size_t b_stride, int64_t columns, float* c,
                size_t c_stride) {
  constexpr size_t kStride = 2 * kRowBytes;
  const size_t line = c_stride * sizeof(float);
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
  for (; p + kDeepest <= pairs; p += kDeepest) {
    const char *low = packed + p * kStride, *high = other + p * kStride;
    step(b + p * kPair, b_stride, {low, low + kRowBytes, high, high + kRowBytes}, kStride);
  }
  if (p < pairs) {
    Tail tail;
    pad_columns(b + p * kPair, b_stride, columns, pairs - p, tail);
    for (int i = 0; i < 4; i++) {
      pad_weights((i < 2 ? packed : other) + p * kStride + i % 2 * kRowBytes, kStride, pairs - p, tail.weights[i]);
    }
    show(&tail);
    step(tail.columns, kRowBytes, {tail.weights[0], tail.weights[1], tail.weights[2], tail.weights[3]}, kRowBytes);
  }
  _tile_stored(0, c, line);
  _tile_stored(1, c + kRows, line);
  _tile_stored(2, c + 2 * kRows, line);
  _tile_stored(3, c + 3 * kRows, line);
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
  if (columns <= kRows && registers == 2 && !add) {
    tiles.configure(columns, 0, true);
    for (; panel + 2 <= panels; panel += 2) {
      two_panels(weights + panel * size, pairs, x, b_stride, columns, c + panel * 2 * kRows, c_stride);
    }
  }
  for (; panel < panels; panel++) {
    for (int64_t j = 0; j < columns; j += kChunk) {
      const int64_t first = std::min(columns - j, kRows), second = std::min(columns - j - first, kRows);
      tiles.configure(first, second, false);
      one_panel(weights + panel * size, registers, pairs, x + j * b_stride, b_stride, first, second,
                c + panel * registers * kRows + j * c_stride, c_stride, add);
    }
  }
}

#else

bool has_amx() { return false; }
void amx_panel_product(const uint32_t*, int, int64_t, int64_t, const void*, size_t, int64_t, float*, size_t, bool) {}

#endif

}  // namespace cllm
