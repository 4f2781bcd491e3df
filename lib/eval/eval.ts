import type { Decoder } from "../decoder.js";
import { defaultThreads } from "../machine/threads.js";
import type { Model } from "../model.js";
import * as check from "../options.js";
import { answerTokens, type PromptItem } from "../prompt-data.js";
import { SEED_MAX } from "../request/sampling.js";

/** Options of evaluate(). */
export interface EvaluateOptions {
  /** Block sizes to measure, 1 to 128; 1, ordinary decoding, is always measured. Default [1, 2, 4, 8, 16]. */
  blockSizes?: readonly number[] | undefined;
  /** Longest answer in tokens. Default 256. */
  maxTokens?: number | undefined;
  /** Times that each answer is made, interleaved over the block sizes; speeds are medians. Default 1. */
  rounds?: number | undefined;
  /** Compute threads. Default: physical cores. */
  threads?: number | undefined;
  /** Seed of the random first drafts. Default 0. */
  seed?: number | undefined;
  /** Called after each prompt. */
  onProgress?: ((progress: { done: number; total: number }) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** One block size n. */
export interface EvaluateRow {
  blockSize: number;
  /** Tokens emitted over Jacobi iterations. */
  tokensPerIteration: number;
  /**
   * Per block of n answer tokens: accepted beyond the one token an iteration always gives, and of those the ones that had
   * stood there before what precedes them was right (CLLM, arXiv 2403.00835, section 3.3 and table 3).
   */
  fastForwardedPerBlock: number;
  stationaryPerBlock: number;
  /** Answer tokens per second of decoding, prompts not counted. */
  tokensPerSecond: number;
  /** tokensPerSecond over that of n = 1, in the same run. */
  speedUp: number;
  /** Share of answers equal to those of n = 1, token by token; others differ from a near-tie on (docs/exactness.md). */
  equal: number;
  /** Share of answers equal to the data's but for white space, or null without data answers. */
  exact: number | null;
}

/** What evaluate() found. */
export interface EvaluateResult {
  /** llama.cpp's description of the model, and its file. */
  model: string;
  path: string;
  prompts: number;
  threads: number;
  rows: EvaluateRow[];
  /**
   * exp of the mean negative log-likelihood of the data's answer tokens, the end-of-generation token included, given the
   * prompt; null without data answers.
   */
  perplexity: number | null;
}

interface Sums {
  emitted: number;
  iterations: number;
  fastForwarded: number;
  stationary: number;
  equal: number;
  exact: number;
  /** Milliseconds of decoding of each round. */
  milliseconds: number[];
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
  const given = check.optionsObject(options, [
    ...["blockSizes", "maxTokens", "rounds", "threads", "seed", "onProgress", "signal"],
  ]);
  const sizes = blockSizes(given.blockSizes, model.info.canRollBack);
  const maxTokens = check.integer(given.maxTokens, "maxTokens", 1, Number.MAX_SAFE_INTEGER, 256);
  const rounds = check.integer(given.rounds, "rounds", 1, 1000, 1);
  const threads = check.integer(given.threads, "threads", 1, 512, defaultThreads());
  const seed = check.integer(given.seed, "seed", 0, SEED_MAX, 0);
  const onProgress = check.callback<(progress: { done: number; total: number }) => void>(
    given.onProgress,
    "onProgress",
  );
  const signal = check.abortSignal(given.signal) ?? undefined;
  if (items.length === 0) throw check.rangeError("at least one prompt", "items", items);

  const prompts = items.map(({ input }) => model.promptTokens(input));
  const answers = items.map(({ answer }) => (answer === null ? null : answerTokens(model, answer)));
  const longest = prompts.reduce(
    (most, prompt, i) => Math.max(most, prompt.length + Math.max(maxTokens, answers[i]?.length ?? 0)),
    0,
  );
  await using decoder = await model.createDecoder({
    blockSize: Math.max(...sizes),
    contextSize: Math.max(2, longest + Math.max(...sizes)),
    threads,
  });
  const sums = new Map<number, Sums>(
    sizes.map((n) => [
      n,
      {
        emitted: 0,
        iterations: 0,
        fastForwarded: 0,
        stationary: 0,
        equal: 0,
        exact: 0,
        milliseconds: Array(rounds).fill(0),
      },
    ]),
  );
  // Buffers and caches are there when the first figure is taken.
  await decoder.generate(prompts[0] as Int32Array, { maxTokens: Math.min(16, maxTokens), signal });
  let likelihood = 0;
  let scored = 0;
  for (const [i, prompt] of prompts.entries()) {
    let ordinary = "";
    for (let round = 0; round < rounds; round++) {
      for (const [n, sum] of sums) {
        const { tokens, text, stats } = await decoder.generate(prompt, { blockSize: n, maxTokens, seed, signal });
        (sum.milliseconds[round] as number) += stats.decodeMilliseconds;
        if (round > 0) continue;
        if (n === 1) ordinary = tokens.join();
        sum.emitted += stats.emittedTokens;
        sum.iterations += stats.iterations;
        sum.fastForwarded += stats.fastForwardedTokens;
        sum.stationary += stats.stationaryTokens;
        if (tokens.join() === ordinary) sum.equal++;
        const wanted = items[i]?.answer ?? null;
        if (wanted !== null && folded(text) === folded(wanted)) sum.exact++;
      }
    }
    const answer = answers[i];
    if (answer) {
      likelihood += await logLikelihood(decoder, prompt, answer, Math.max(...sizes));
      scored += answer.length;
      signal?.throwIfAborted();
    }
    onProgress?.({ done: i + 1, total: prompts.length });
  }
  const answered = answers.filter((answer) => answer !== null).length;
  const speeds = new Map(
    [...sums].map(([n, sum]) => [n, median(sum.milliseconds.map((ms) => (sum.emitted / ms) * 1000))]),
  );
  return {
    model: model.info.description,
    path: model.path,
    prompts: prompts.length,
    threads,
    rows: [...sums].map(([n, sum]) => ({
      blockSize: n,
      tokensPerIteration: sum.emitted / sum.iterations,
      fastForwardedPerBlock: (sum.fastForwarded / sum.emitted) * n,
      stationaryPerBlock: (sum.stationary / sum.emitted) * n,
      tokensPerSecond: speeds.get(n) as number,
      speedUp: (speeds.get(n) as number) / (speeds.get(1) as number),
      equal: sum.equal / prompts.length,
      exact: answered === 0 ? null : sum.exact / answered,
    })),
    perplexity: scored === 0 ? null : Math.exp(-likelihood / scored),
  };
}

function blockSizes(value: unknown, canRollBack: boolean): number[] {
  if (value === undefined) return canRollBack ? [1, 2, 4, 8, 16] : [1];
  if (!Array.isArray(value)) throw check.typeError("an array of block sizes", "blockSizes", value);
  const sizes = value.map((n, i) => check.integer(n, `blockSizes[${i}]`, 1, 128, 1));
  return [...new Set([1, ...sizes])].sort((a, b) => a - b);
}

const folded = (text: string) => text.normalize("NFC").trim().replace(/\s+/g, " ");

/** Sum of the answer tokens' log-probabilities: they go through the model as the drafts of blocks, whose logits come back. */
async function logLikelihood(
  decoder: Decoder,
  prompt: Int32Array,
  answer: number[],
  blockSize: number,
): Promise<number> {
  const { vocabSize } = decoder.model.info;
  const sequence = await decoder.sequence();
  try {
    let sum = 0;
    for (let at = 0; at < answer.length; at += blockSize) {
      const part = answer.slice(at, at + blockSize);
      await sequence.prefill([...prompt, ...answer.slice(0, at)]);
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
  let largest = Number.NEGATIVE_INFINITY;
  for (const logit of logits) largest = Math.max(largest, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return (logits[token] as number) - largest - Math.log(sum);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}
