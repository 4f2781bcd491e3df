import type { Decoder } from "../decoder.js";
import {
  DEFAULT_EVALUATED_BLOCK_SIZES,
  DEFAULT_EVALUATED_TOKENS,
  MAX_BLOCK_SIZE,
  MAX_CONTEXT_SIZE,
  MAX_ROUNDS,
  MAX_SEED,
  MAX_THREADS,
} from "../limits.js";
import { defaultThreads } from "../machine/threads.js";
import type { Model } from "../model.js";
import { maxBlockSize } from "../model-info.js";
import { integer, rangeError, readOptions, typeError } from "../options.js";
import { answerTokens, type PromptItem } from "../prompt-data.js";

/** Options of evaluate(). */
export interface EvaluateOptions {
  /** Block sizes to measure, 1 to 128; 1, ordinary decoding, is always measured. Default [1, 2, 4, 8, 16]. */
  blockSizes?: readonly number[] | undefined;
  /** Longest answer in tokens. Default 256. */
  maxTokens?: number | undefined;
  /** Times that each answer is made, 1 to 1000, interleaved over the block sizes; speeds are medians. Default 1. */
  rounds?: number | undefined;
  /** Compute threads, 1 to 512. Default: physical cores. */
  threads?: number | undefined;
  /** Seed of the random first drafts. Default 0. */
  seed?: number | undefined;
  /** Called after each prompt. */
  onProgress?: ((progress: { done: number; total: number }) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Figures of one block size n. */
export interface EvaluateRow {
  blockSize: number;
  /** Tokens emitted per Jacobi iteration. */
  tokensPerIteration: number;
  /**
   * Tokens per block of n answer tokens that were accepted beyond the one token that every iteration gives (CLLM, arXiv
   * 2403.00835, section 3.3 and table 3).
   */
  fastForwardedPerBlock: number;
  /** Fast-forwarded tokens per block that already stood at their position when a token before them was still wrong. */
  stationaryPerBlock: number;
  /** Answer tokens per second of decoding, prompts not counted. */
  tokensPerSecond: number;
  /** tokensPerSecond over the tokensPerSecond of n = 1 in the same run. */
  speedUp: number;
  /** Share of answers equal to those of n = 1, token by token. Others differ after a near-tie (docs/exactness.md). */
  equal: number;
  /** Share of answers equal to the data's but for white space; null where the data have no answers. */
  exact: number | null;
}

/** Figures that evaluate() measured. */
export interface EvaluateResult {
  /** llama.cpp's description of the model. */
  model: string;
  /** The model's file. */
  path: string;
  prompts: number;
  threads: number;
  rows: EvaluateRow[];
  /**
   * exp of the mean negative log-likelihood of the data's answer tokens behind the prompt, the end-of-generation token
   * included; null where the data have no answers.
   */
  perplexity: number | null;
}

/** Sums over the answers at one block size. */
interface Tally {
  blockSize: number;
  emitted: number;
  iterations: number;
  fastForwarded: number;
  stationary: number;
  equal: number;
  exact: number;
  /** Decoding milliseconds of each round. */
  milliseconds: number[];
}

/** A prompt, and the data's answer to it where there is one. */
interface Question {
  prompt: Int32Array;
  answer: { text: string; tokens: number[] } | null;
}

/**
 * Measures a model on prompts: what Jacobi decoding gains at each block size, whether its answers are those of ordinary
 * decoding, and how good they are. Block sizes take turns on each prompt, so that a busy machine slows all of them.
 *
 * @throws TypeError, RangeError; {@link CllmError} of createDecoder() and generate(); the signal's reason after an abort.
 * @example
 * const { rows } = await evaluate(model, await readPromptData("data.jsonl"), { blockSizes: [8, 16] });
 */
export async function evaluate(
  model: Model,
  items: readonly PromptItem[],
  options: EvaluateOptions = {},
): Promise<EvaluateResult> {
  const settings = evaluateSettings(options, maxBlockSize(model.info));
  const { blockSizes, maxTokens, rounds, signal, threads } = settings;
  if (items.length === 0) throw rangeError("at least one prompt", "items", items);
  const questions = items.map(({ input, answer: text }): Question => {
    const answer = text === null ? null : { text, tokens: answerTokens(model, text) };
    return { prompt: model.promptTokens(input), answer };
  });
  const answers = questions.flatMap(({ answer }) => answer ?? []);
  const largestBlock = Math.max(...blockSizes);
  const lengths = questions.map(
    ({ prompt, answer }) => prompt.length + Math.max(maxTokens, answer?.tokens.length ?? 0),
  );
  const longest = lengths.reduce((longest, length) => Math.max(longest, length), 0);
  await using decoder = await model.createDecoder({
    blockSize: largestBlock,
    contextSize: Math.max(2, longest + largestBlock),
    threads,
  });
  // This answer is not counted: it makes buffers and caches exist before the first figure is taken.
  await decoder.generate((questions[0] as Question).prompt, { maxTokens: Math.min(16, maxTokens), signal });
  const tallies = blockSizes.map((blockSize) => newTally(blockSize, rounds));
  let logLikelihood = 0;
  for (const [i, question] of questions.entries()) {
    await answerAtEachSize(decoder, question, tallies, settings);
    if (question.answer !== null) {
      logLikelihood += await answerLogLikelihood(decoder, question.prompt, question.answer.tokens, largestBlock);
      signal?.throwIfAborted();
    }
    settings.onProgress?.({ done: i + 1, total: questions.length });
  }
  const scoredTokens = answers.reduce((sum, { tokens }) => sum + tokens.length, 0);
  return {
    model: model.info.description,
    path: model.path,
    prompts: questions.length,
    threads,
    rows: toRows(tallies, questions.length, answers.length),
    perplexity: scoredTokens === 0 ? null : Math.exp(-logLikelihood / scoredTokens),
  };
}

type EvaluateSettings = ReturnType<typeof evaluateSettings>;

function evaluateSettings(options: EvaluateOptions, limit: number) {
  return readOptions(options, (read) => ({
    blockSizes: readBlockSizes(read.value("blockSizes"), limit),
    maxTokens: read.integer("maxTokens", 1, MAX_CONTEXT_SIZE, DEFAULT_EVALUATED_TOKENS),
    rounds: read.integer("rounds", 1, MAX_ROUNDS, 1),
    threads: read.integer("threads", 1, MAX_THREADS, defaultThreads()),
    seed: read.integer("seed", 0, MAX_SEED, 0),
    onProgress: read.callback<(progress: { done: number; total: number }) => void>("onProgress"),
    signal: read.abortSignal("signal") ?? undefined,
  }));
}

/** Returns the block sizes in ascending order; 1 is always among them. */
function readBlockSizes(value: unknown, limit: number): number[] {
  if (value === undefined) return DEFAULT_EVALUATED_BLOCK_SIZES.filter((size) => size <= limit);
  if (!Array.isArray(value)) throw typeError("an array of block sizes", "blockSizes", value);
  const sizes = value.map((size, i) => integer(size, `blockSizes[${i}]`, 1, MAX_BLOCK_SIZE, 1));
  return [...new Set([1, ...sizes])].sort((a, b) => a - b);
}

function newTally(blockSize: number, rounds: number): Tally {
  const milliseconds = Array<number>(rounds).fill(0);
  return { blockSize, emitted: 0, iterations: 0, fastForwarded: 0, stationary: 0, equal: 0, exact: 0, milliseconds };
}

/** Answers one prompt at each block size, in each round, and adds the figures to the tallies. */
async function answerAtEachSize(
  decoder: Decoder,
  { prompt, answer }: Question,
  tallies: readonly Tally[],
  { maxTokens, rounds, seed, signal }: EvaluateSettings,
): Promise<void> {
  let ordinary = "";
  for (let round = 0; round < rounds; round++) {
    for (const tally of tallies) {
      const { blockSize } = tally;
      const { tokens, text, stats } = await decoder.generate(prompt, { blockSize, maxTokens, seed, signal });
      (tally.milliseconds[round] as number) += stats.decodeMilliseconds;
      // Further rounds give the same tokens, so only their times are taken.
      if (round > 0) continue;
      if (blockSize === 1) ordinary = tokens.join();
      tally.emitted += stats.emittedTokens;
      tally.iterations += stats.iterations;
      tally.fastForwarded += stats.fastForwardedTokens;
      tally.stationary += stats.stationaryTokens;
      if (tokens.join() === ordinary) tally.equal++;
      if (answer !== null && normalised(text) === normalised(answer.text)) tally.exact++;
    }
  }
}

/** `answered` is the number of prompts that have an answer in the data. */
function toRows(tallies: readonly Tally[], prompts: number, answered: number): EvaluateRow[] {
  const speeds = tallies.map(({ emitted, milliseconds }) => median(milliseconds.map((ms) => (emitted / ms) * 1000)));
  return tallies.map((tally, i) => ({
    blockSize: tally.blockSize,
    tokensPerIteration: tally.emitted / tally.iterations,
    fastForwardedPerBlock: (tally.fastForwarded / tally.emitted) * tally.blockSize,
    stationaryPerBlock: (tally.stationary / tally.emitted) * tally.blockSize,
    tokensPerSecond: speeds[i] as number,
    // The first row is that of ordinary decoding.
    speedUp: (speeds[i] as number) / (speeds[0] as number),
    equal: tally.equal / prompts,
    exact: answered === 0 ? null : tally.exact / answered,
  }));
}

const normalised = (text: string) => text.normalize("NFC").trim().replace(/\s+/g, " ");

/** Sums the log-probabilities of an answer's tokens, which go through the model as drafts of blocks that return logits. */
async function answerLogLikelihood(
  decoder: Decoder,
  prompt: Int32Array,
  answer: number[],
  blockSize: number,
): Promise<number> {
  const { vocabSize } = decoder.model.info;
  const sequence = await decoder.sequence();
  try {
    let sum = 0;
    for (let start = 0; start < answer.length; start += blockSize) {
      const part = answer.slice(start, start + blockSize);
      await sequence.prefill([...prompt, ...answer.slice(0, start)]);
      const { logits } = await sequence.iterate({ blockSize: part.length, draft: part.slice(0, -1), logits: true });
      for (const [j, token] of part.entries()) {
        sum += logProbability((logits as Float32Array).subarray(j * vocabSize, (j + 1) * vocabSize), token);
      }
    }
    return sum;
  } finally {
    await sequence.dispose();
  }
}

function logProbability(logits: Float32Array, token: number): number {
  let maxLogit = Number.NEGATIVE_INFINITY;
  for (const logit of logits) maxLogit = Math.max(maxLogit, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - maxLogit);
  return (logits[token] as number) - maxLogit - Math.log(sum);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}
