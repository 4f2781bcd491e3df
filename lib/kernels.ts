import type { Verdicts } from "./addon.js";
import { addon } from "./binary/binding.js";
import { MOST_CANDIDATES } from "./machine/memory.js";
import * as check from "./options.js";
import { readChoosing, SAMPLING_NAMES, type SamplingOptions } from "./request/sampling.js";

export type { Verdicts } from "./addon.js";

/** Options of {@link kernels}.choose. */
export interface ChooseOptions extends SamplingOptions {
  /** Logits of a row, 1 to 2^31 - 1. */
  vocab: number;
  /** From one row to the next, in elements. Default `vocab`. */
  stride?: number | undefined;
  /** Position that the first row's choice takes; the next rows' take the next ones. Default 0. */
  position?: number | undefined;
}

/** Input of {@link kernels}.verify: B lanes, C candidate blocks each, n tokens a block, all arrays flat and row-major. */
export interface VerifyInput {
  /** Blocks [B, C, n]. Token 0 of a block is confirmed and the same in all candidates; the rest is the draft. */
  tokens: Int32Array;
  /** [B, C, n]: the model's choice after each token of `tokens`, as {@link kernels}.choose gives it. */
  choices: Int32Array;
  /** n, 1 to 128. */
  block: number;
  /** C, 1 to 8. Default 1. Candidate 0 is the lane's own block. */
  candidates?: number | undefined;
  /** [B]: how many tokens each lane may still emit; a lane with 0 is left out. Default: no limit. */
  budgets?: Int32Array | undefined;
  /** Tokens that end a lane. Default: none. */
  endOfGeneration?: Iterable<number> | undefined;
  /** [B, n]: 1 where candidate 0's draft token stood at its position one iteration before. Default: none did. */
  stood?: Uint8Array | undefined;
}

function int32(value: unknown, name: string): Int32Array {
  if (!(value instanceof Int32Array)) throw check.typeError("an Int32Array", name, value);
  return value;
}

/**
 * The draft check itself, for decoders of one's own: `choose` and `verify` of native/kernels on typed arrays, on the
 * device of the loaded binary (`binaryInfo().backend`). They run on the calling thread; nothing is kept.
 *
 * @example
 * const choices = kernels.choose(logits, { vocab });                  // logits [n, vocab] of one block
 * const { accepted, emitted } = kernels.verify({ tokens: block, choices, block: n });
 * const text = choices.subarray(0, emitted[0]);                       // what ordinary decoding would have given
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
    if (!(logits instanceof Float32Array)) throw check.typeError("a Float32Array", "logits", logits);
    const given = check.optionsObject(options, ["vocab", "stride", "position", ...SAMPLING_NAMES]);
    if (given.vocab === undefined) throw check.typeError("an integer from 1 to 2147483647", "vocab", undefined);
    const vocab = check.integer(given.vocab, "vocab", 1, 2 ** 31 - 1, 0);
    const stride = check.integer(given.stride, "stride", vocab, 2 ** 31 - 1, vocab);
    if (logits.length !== 0 && (logits.length - vocab) % stride !== 0 && logits.length % stride !== 0) {
      throw check.rangeError(`whole rows of ${stride} elements`, "logits.length", logits.length);
    }
    const rows = logits.length === 0 ? 0 : Math.floor((logits.length - vocab) / stride) + 1;
    const position = check.integer(given.position, "position", 0, 2 ** 30, 0);
    const choosing = readChoosing(given, 0, vocab);
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
    const given = check.optionsObject(input, [
      "tokens",
      "choices",
      "block",
      "candidates",
      "budgets",
      "endOfGeneration",
      "stood",
    ]);
    const tokens = int32(given.tokens, "tokens");
    const choices = int32(given.choices, "choices");
    if (given.block === undefined) throw check.typeError("an integer from 1 to 128", "block", undefined);
    const block = check.integer(given.block, "block", 1, 128, 0);
    const candidates = check.integer(given.candidates, "candidates", 1, MOST_CANDIDATES, 1);
    const lanes = tokens.length / (block * candidates);
    if (!Number.isInteger(lanes) || lanes < 1) {
      throw check.rangeError(`a positive multiple of ${block * candidates}`, "tokens.length", tokens.length);
    }
    if (choices.length !== tokens.length) {
      throw check.rangeError(String(tokens.length), "choices.length", choices.length);
    }
    const budgets =
      given.budgets === undefined ? new Int32Array(lanes).fill(2 ** 31 - 1) : int32(given.budgets, "budgets");
    if (budgets.length !== lanes) throw check.rangeError(String(lanes), "budgets.length", budgets.length);
    const stood = given.stood ?? new Uint8Array(lanes * block);
    if (!(stood instanceof Uint8Array)) throw check.typeError("a Uint8Array", "stood", stood);
    if (stood.length !== lanes * block) throw check.rangeError(String(lanes * block), "stood.length", stood.length);
    let vocab = 1;
    for (const token of choices) {
      if (token < 0) throw check.rangeError("token ids from 0", "choices", token);
      vocab = Math.max(vocab, token + 1);
    }
    const endOfGeneration = new Uint8Array(vocab);
    for (const token of (given.endOfGeneration ?? []) as Iterable<number>) endOfGeneration[token] = 1;
    return addon().verifyBlocks({ tokens, choices, block, candidates, lanes, budgets, stood, endOfGeneration });
  },
});
