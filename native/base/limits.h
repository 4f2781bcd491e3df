#pragma once

#include <cstdint>

namespace cllm {

// Limits that JavaScript and native code share. lib/limits.ts has the same names and values; a test compares them.

/// Tokens of a block, at most.
inline constexpr int kMaxBlockSize = 128;
/// Lanes of a decoder, at most.
inline constexpr int kMaxLanes = 256;
/// Blocks that are verified for a lane at once, at most.
inline constexpr int kMaxCandidates = 8;
/// Iterations of a burst, at most.
inline constexpr int kMaxBurst = 64;
/// Tokens that one lane contributes to a forward pass, at most; larger blocks run in equal parts (and so never in parts
/// of one token). ggml's CPU attention rounds differently from 64 tokens of one lane on (GGML_FA_TILE_Q), and for a
/// single token. With this limit all blocks of two or more tokens have the logits of small blocks.
inline constexpr int kMaxPartTokens = 48;
/// Tokens of a prefill pass where llama.cpp's attention decides the arithmetic: it is that of blocks below 64 tokens.
inline constexpr int kExactPrefillChunk = 32;
/// Tokens of a prefill pass otherwise: longer ones are no faster.
inline constexpr int kLongPrefillChunk = 128;
/// Tokens of a forward pass over blocks, at most: it bounds the compute buffers when lanes x block is large.
inline constexpr int kMaxPassTokens = 512;
/// The same where layers keep the rows of their window only. Their caches have cells for the window and a pass, and the
/// number of cells decides in which order attention adds them up: so it must not depend on lanes and blocks.
inline constexpr int kMaxWindowPassTokens = 224;
/// Alternatives that are reported for each token, at most.
inline constexpr int kMaxLogprobs = 100;

// Only native code uses what follows.

/// llama.cpp rounds the KV cells of a stream, and those that a pass attends to, up to a multiple of this.
inline constexpr int64_t kCellPadding = 256;
constexpr int64_t padded_cells(int64_t cells) { return (cells + kCellPadding - 1) / kCellPadding * kCellPadding; }

}  // namespace cllm
