import { defaultThreads } from "../machine/threads.js";
import type { Model } from "../model.js";
import type { Input } from "../model-info.js";
import * as check from "../options.js";
import { SEED_MAX } from "../request/sampling.js";

/** Options of trace(). */
export interface TraceOptions {
  /** Tokens per block n, 2 to 128. Default 16. */
  blockSize?: number | undefined;
  /** Tokens to emit at most. Default 256. */
  maxTokens?: number | undefined;
  /** Seed of the random first draft. Default 0. */
  seed?: number | undefined;
  /** Compute threads. Default: physical cores. */
  threads?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** What an iteration found of a draft token, or what it emitted beyond the drafts. */
export type TraceKind = "confirmed" | "fastForwarded" | "stationary" | "rejected";

/** One Jacobi iteration; n is the block size. */
export interface TraceIteration {
  /** Position of the block's first token. */
  position: number;
  /** [n] The tokens that went through the model. */
  block: number[];
  /** [n] What each of them turned out to be; the first is always `confirmed`. */
  kinds: TraceKind[];
  /** [n] The model's choice after each. */
  choices: number[];
  /** Tokens emitted: accepted drafts and the choice after them. */
  emitted: number[];
  /** Characters of the text that are confirmed after this iteration. */
  textLength: number;
  forwardMilliseconds: number;
}

/** Everything that happened in one generation. */
export interface Trace {
  model: string;
  blockSize: number;
  prompt: string;
  promptTokens: number;
  text: string;
  /** Texts of all tokens that occur, by id. */
  tokens: Record<number, string>;
  iterations: TraceIteration[];
  emittedTokens: number;
  fastForwardedTokens: number;
  stationaryTokens: number;
  forwardMilliseconds: number;
}

/**
 * Decodes a prompt and keeps every iteration of it.
 *
 * @throws TypeError, RangeError; {@link CllmError} of createDecoder() and of sequences; the signal's reason.
 * @example
 * const { iterations } = await trace(model, "SELECT", { blockSize: 16 });
 */
export async function trace(model: Model, input: Input, options: TraceOptions = {}): Promise<Trace> {
  const given = check.optionsObject(options, ["blockSize", "maxTokens", "seed", "threads", "signal"]);
  const blockSize = check.integer(given.blockSize, "blockSize", 2, 128, 16);
  const maxTokens = check.integer(given.maxTokens, "maxTokens", 1, 1 << 20, 256);
  const seed = check.integer(given.seed, "seed", 0, SEED_MAX, 0);
  const threads = check.integer(given.threads, "threads", 1, 512, defaultThreads());
  const signal = check.abortSignal(given.signal);
  const prompt = model.promptTokens(input);
  await using decoder = await model.createDecoder({
    blockSize,
    threads,
    contextSize: prompt.length + maxTokens + blockSize,
  });
  const sequence = await decoder.sequence();
  await sequence.prefill(prompt);
  const iterations: TraceIteration[] = [];
  const answer: number[] = [];
  let [fastForwarded, stationary, milliseconds, ended] = [0, 0, 0, false];
  while (!ended && answer.length < maxTokens) {
    signal?.throwIfAborted();
    const made = await sequence.iterate({ blockSize, seed, draftSource: "auto" });
    const emitted: number[] = [];
    for (const token of made.tokens) {
      ended = model.token(token).endOfGeneration || answer.length + emitted.length + 1 >= maxTokens;
      emitted.push(token);
      if (ended) break;
    }
    answer.push(...emitted);
    const kinds = classify(made.block, made.position, Math.min(made.accepted, emitted.length), iterations.at(-1));
    for (const kind of kinds) {
      if (kind === "fastForwarded" || kind === "stationary") fastForwarded++;
      if (kind === "stationary") stationary++;
    }
    milliseconds += made.forwardMilliseconds;
    iterations.push({
      position: made.position,
      block: made.block,
      kinds,
      choices: made.choices,
      emitted,
      textLength: model.detokenize(answer).length,
      forwardMilliseconds: made.forwardMilliseconds,
    });
  }
  const seen = new Set(iterations.flatMap(({ block, choices }) => [...block, ...choices]));
  return {
    model: model.info.description,
    blockSize,
    prompt: model.detokenize(prompt, { renderSpecial: true }),
    promptTokens: prompt.length,
    text: model.detokenize(answer),
    tokens: Object.fromEntries([...seen].map((id) => [id, tokenText(model, id)])),
    iterations,
    emittedTokens: answer.length,
    fastForwardedTokens: fastForwarded,
    stationaryTokens: stationary,
    forwardMilliseconds: milliseconds,
  };
}

/**
 * An accepted draft is stationary when it stood at its position in the iteration before, behind a token that was still
 * wrong (CLLM, arXiv 2403.00835, section 3.3); else it is fast-forwarded alone.
 */
function classify(
  block: readonly number[],
  position: number,
  accepted: number,
  before: TraceIteration | undefined,
): TraceKind[] {
  return block.map((token, j) => {
    if (j === 0) return "confirmed";
    if (j > accepted) return "rejected";
    const then = before === undefined ? -1 : position + j - before.position;
    const stood = before !== undefined && then < before.block.length && before.block[then] === token;
    return stood && before.kinds[then] === "rejected" ? "stationary" : "fastForwarded";
  });
}

/** A part of a character has no text of its own: then the vocabulary's spelling. */
function tokenText(model: Model, id: number): string {
  const text = model.detokenize([id], { renderSpecial: true });
  return text === "" || text.includes("\uFFFD") ? model.token(id).text : text;
}
