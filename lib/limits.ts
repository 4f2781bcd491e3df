/**
 * Limits and defaults, each in one place. native/base/limits.h has those limits again that native code relies on, under
 * the same names; test/05 compares them.
 */

/** Largest block, in tokens. */
export const MAX_BLOCK_SIZE = 128;
/** Largest number of lanes of a decoder. */
export const MAX_LANES = 256;
/** Largest number of blocks that are verified for a lane at once. */
export const MAX_CANDIDATES = 8;
/** Largest burst, in iterations. */
export const MAX_BURST = 64;
/**
 * Largest number of tokens that one lane contributes to a forward pass; larger blocks run in equal parts. ggml's CPU
 * attention rounds differently from 64 tokens of one lane on, and for a single token.
 */
export const MAX_PART_TOKENS = 48;
/** Largest forward pass over blocks, in tokens. It bounds the compute buffers when lanes x block is large. */
export const MAX_PASS_TOKENS = 512;
/** The same where layers keep the rows of their window only: their caches have rows for the window and a pass. */
export const MAX_WINDOW_PASS_TOKENS = 224;
/** llama.cpp rounds the number of a lane's KV cells up to a multiple of this. */
export const CELL_PADDING = 256;
/** Largest number of alternatives that are reported for each token (`logprobs`). */
export const MAX_LOGPROBS = 100;

/** Largest number of compute threads. */
export const MAX_THREADS = 512;
/** Largest prefill pass, in prompt tokens. */
export const MAX_PREFILL_CHUNK = 4096;
/** Largest context of a lane, in tokens. */
export const MAX_CONTEXT_SIZE = 2 ** 30;
/** Largest number of layers that can be asked for on a GPU; no model has as many. */
export const MAX_GPU_LAYERS = 2 ** 20;
/** The largest 32-bit integer: the limit of counts that have no smaller limit. */
export const MAX_INT32 = 2 ** 31 - 1;
/** Seeds are unsigned 32-bit integers. */
export const MAX_SEED = 0xffffffff;

/** Context of a lane in tokens, where neither the caller nor the model sets another size. */
export const DEFAULT_CONTEXT_SIZE = 4096;
/** Largest block that `auto` chooses for an ordinary model: longer drafts from lookup are seldom right to the end. */
export const DEFAULT_BLOCK_SIZE = 16;
/** Longest answer, in tokens, of evaluate() and trace(). */
export const DEFAULT_EVALUATED_TOKENS = 256;
/** How many of the last tokens of prompt and answer the penalties see. */
export const DEFAULT_PENALTY_TOKENS = 64;

/** Largest number of times that evaluate() makes each answer. */
export const MAX_ROUNDS = 1000;
/** Block sizes that evaluate() measures. */
export const DEFAULT_EVALUATED_BLOCK_SIZES: readonly number[] = [1, 2, 4, 8, 16];

/** Largest training row, in tokens. */
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
