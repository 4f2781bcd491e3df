/**
 * Limits and defaults, each in one place. Those that native code relies on too stand in native/base/limits.h under the same
 * names; a test compares them.
 */

/** Tokens of a block, at most. */
export const MAX_BLOCK_SIZE = 128;
/** Lanes of a decoder, at most. */
export const MAX_LANES = 256;
/** Blocks that are verified for a lane at once, at most. */
export const MAX_CANDIDATES = 8;
/** Iterations of a burst, at most. */
export const MAX_BURST = 16;
/**
 * Tokens that one lane contributes to a forward pass, at most; larger blocks run in equal parts. ggml's CPU attention rounds
 * otherwise from 64 tokens of one lane on, and for a single token.
 */
export const MAX_PART_TOKENS = 48;
/** Tokens of a forward pass over blocks, at most: it bounds the compute buffers when lanes x block is large. */
export const MAX_PASS_TOKENS = 512;
/** Alternatives that are told for each token (`logprobs`), at most. */
export const MAX_LOGPROBS = 100;

/** Compute threads, at most. */
export const MAX_THREADS = 512;
/** Prompt tokens of a prefill pass, at most. */
export const MAX_PREFILL_CHUNK = 4096;
/** Tokens that a lane can hold, at most. */
export const MAX_CONTEXT_SIZE = 2 ** 30;
/** Seeds are unsigned 32-bit integers. */
export const MAX_SEED = 0xffffffff;

/** Tokens that a lane can hold where neither the caller nor the model says less. */
export const DEFAULT_CONTEXT_SIZE = 4096;
/** The largest block that `auto` chooses for an ordinary model: drafts that are looked up are seldom right for longer. */
export const DEFAULT_BLOCK_SIZE = 16;
/**
 * Prompt tokens of a prefill pass. Batches of 2 to 63 tokens have the arithmetic of blocks, larger ones another (tiled
 * attention): so a KV row does not depend on how it came to be written.
 */
export const DEFAULT_PREFILL_CHUNK = 32;
/** Longest answer in tokens where figures are made of answers: evaluate(), trace(). */
export const DEFAULT_EVALUATED_TOKENS = 256;
/** Last tokens of prompt and answer that penalties for repetition see. */
export const DEFAULT_PENALTY_TOKENS = 64;

/** Times that evaluate() makes each answer, at most. */
export const MAX_ROUNDS = 1000;
/** Block sizes that evaluate() measures. */
export const DEFAULT_EVALUATED_BLOCK_SIZES: readonly number[] = [1, 2, 4, 8, 16];

/** Tokens of a training row, at most. */
export const MAX_ROW_TOKENS = 2 ** 16;
/** Defaults of distill(), by the names of its options. docs/training.md has the reasons. */
export const DISTILL_DEFAULTS = {
  answers: "own",
  blockSize: 16,
  arEpochs: 0,
  epochs: 1,
  rowTokens: 512,
  batch: 4,
  cleanShare: 0.5,
  pool: 48,
  rowSteps: 6,
  arWeight: 1,
  consistencyWeight: 1,
  softShare: 0.5,
  decay: 0.85,
  learningRate: 2.5e-4,
  arLearningRate: 3e-4,
  weightDecay: 0.01,
  clip: 1,
  lora: 0,
  type: "BF16",
  heldBack: 16,
  seed: 0,
  checkpointMinutes: 5,
} as const;
