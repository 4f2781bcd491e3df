import { types } from "node:util";
import type { Verdicts, VerifyBlocks } from "./addon.js";
import { addon } from "./binary/binding.js";
import { MAX_BLOCK_SIZE, MAX_CANDIDATES, MAX_CONTEXT_SIZE, MAX_INT32 } from "./limits.js";
import { type OptionsReader, rangeError, readOptions, typeError } from "./options.js";
import { readSampling, type SamplingOptions } from "./request/sampling.js";

export type { Verdicts } from "./addon.js";

/** Options of {@link kernels}.choose. */
export interface ChooseOptions extends SamplingOptions {
  /** Logits per row, 1 to 2^31 - 1. */
  vocab: number;
  /** Elements from the start of one row to the start of the next. Default `vocab`. */
  stride?: number | undefined;
  /** Position of the first row's choice; each further row is one position later. Default 0. */
  position?: number | undefined;
}

/**
 * Input of {@link kernels}.verify: B lanes, C candidate blocks each, n tokens a block, all arrays flat and row-major.
 */
export interface VerifyInput {
  /** [B, C, n]: the blocks. Token 0 of a block is confirmed and the same in all candidates; the others are the draft. */
  tokens: Int32Array;
  /** [B, C, n]: the model's choice after each token of `tokens`, as {@link kernels}.choose gives it. */
  choices: Int32Array;
  /** n, 1 to 128. */
  block: number;
  /** C, 1 to 8. Default 1. Candidate 0 is the lane's own block. */
  candidates?: number | undefined;
  /** [B]: tokens that each lane may still emit; a lane with 0 is skipped. Default: no limit. */
  budgets?: Int32Array | undefined;
  /** Tokens that end a lane. Default: none. */
  endOfGeneration?: Iterable<number> | undefined;
  /** [B, n]: 1 where candidate 0's draft token stood at its position one iteration before. Default: all 0. */
  stood?: Uint8Array | undefined;
}

function int32Array(value: unknown, name: string): Int32Array {
  if (!types.isInt32Array(value)) throw typeError("an Int32Array", name, value);
  return value;
}

function checkLength(array: { length: number }, expected: number, name: string): void {
  if (array.length !== expected) throw rangeError(String(expected), `${name}.length`, array.length);
}

function readVerifyInput(read: OptionsReader): VerifyBlocks {
  const tokens = int32Array(read.value("tokens"), "tokens");
  const choices = int32Array(read.value("choices"), "choices");
  const block = read.requiredInteger("block", 1, MAX_BLOCK_SIZE);
  const candidates = read.integer("candidates", 1, MAX_CANDIDATES, 1);
  const lanes = tokens.length / (block * candidates);
  if (!Number.isInteger(lanes) || lanes < 1) {
    throw rangeError(`a positive multiple of ${block * candidates}`, "tokens.length", tokens.length);
  }
  checkLength(choices, tokens.length, "choices");
  const budgets = int32Array(read.value("budgets") ?? new Int32Array(lanes).fill(MAX_INT32), "budgets");
  checkLength(budgets, lanes, "budgets");
  const stood = read.value("stood") ?? new Uint8Array(lanes * block);
  if (!types.isUint8Array(stood)) throw typeError("a Uint8Array", "stood", stood);
  checkLength(stood, lanes * block, "stood");
  let vocab = 1;
  for (const token of choices) {
    if (token < 0) throw rangeError("token ids from 0", "choices", token);
    vocab = Math.max(vocab, token + 1);
  }
  const endOfGeneration = new Uint8Array(vocab);
  for (const token of (read.value("endOfGeneration") ?? []) as Iterable<number>) endOfGeneration[token] = 1;
  return { tokens, choices, block, candidates, lanes, budgets, stood, endOfGeneration };
}

/**
 * The draft check by itself, for those who write a decoder: `choose` and `verify` of native/kernels on typed arrays, on
 * the device of the loaded binary (`binaryInfo().backend`). They run on the calling thread and keep no state.
 *
 * @example
 * const choices = kernels.choose(logits, { vocab });                  // logits [n, vocab] of one block
 * const { accepted, emitted } = kernels.verify({ tokens: block, choices, block: n });
 * const tokens = choices.subarray(0, emitted[0]);                     // what ordinary decoding would have given
 */
export const kernels = Object.freeze({
  /**
   * The choice of each row of logits [rows, vocab]: the largest logit, ties to the lowest token id; -0 equals +0, NaN
   * ranks below -inf, a row of NaN alone gives token 0. With a temperature a token is drawn instead, as a decoder draws
   * it at that position with that seed (default 0).
   *
   * @throws TypeError, RangeError
   */
  choose(logits: Float32Array, options: ChooseOptions): Int32Array {
    if (!types.isFloat32Array(logits)) throw typeError("a Float32Array", "logits", logits);
    const { vocab, stride, position, choosing } = readOptions(options, (read) => {
      const vocab = read.requiredInteger("vocab", 1, MAX_INT32);
      return {
        vocab,
        stride: read.integer("stride", vocab, MAX_INT32, vocab),
        position: read.integer("position", 0, MAX_CONTEXT_SIZE, 0),
        choosing: readSampling(read, 0),
      };
    });
    if (logits.length !== 0 && (logits.length - vocab) % stride !== 0 && logits.length % stride !== 0) {
      throw rangeError(`whole rows of ${stride} elements`, "logits.length", logits.length);
    }
    const rows = logits.length === 0 ? 0 : Math.floor((logits.length - vocab) / stride) + 1;
    return addon().chooseTokens(logits, vocab, stride, Math.max(0, rows), choosing, position);
  },

  /**
   * Per lane: the candidate with the most accepted draft tokens (ties: the lowest), how many of its choices are emitted
   * (through the first end-of-generation token, at most the budget), and how many of them were stationary (CLLM, arXiv
   * 2403.00835, sections 3.1 and 3.3). The emitted tokens are `choices[b, winner, 0 .. emitted - 1]`.
   *
   * @throws TypeError, RangeError
   */
  verify(input: VerifyInput): Verdicts {
    return addon().verifyBlocks(readOptions(input, readVerifyInput));
  },
});
