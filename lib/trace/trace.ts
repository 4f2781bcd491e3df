import {
  DEFAULT_BLOCK_SIZE,
  DEFAULT_EVALUATED_TOKENS,
  MAX_BLOCK_SIZE,
  MAX_CONTEXT_SIZE,
  MAX_SEED,
  MAX_THREADS,
} from "../limits.js";
import { defaultThreads } from "../machine/threads.js";
import type { Model } from "../model.js";
import type { Input } from "../model-info.js";
import { readOptions } from "../options.js";
import type { Sequence } from "../sequence.js";

/** Options of trace(). */
export interface TraceOptions {
  /** Tokens per block n, 2 to 128. Default 16. */
  blockSize?: number | undefined;
  /** Tokens to emit at most. Default 256. */
  maxTokens?: number | undefined;
  /** Seed of the random first draft. Default 0. */
  seed?: number | undefined;
  /** Compute threads, 1 to 512. Default: physical cores. */
  threads?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** How a token of a block fared in its iteration. */
export type TraceKind = "confirmed" | "fastForwarded" | "stationary" | "rejected";

/** One Jacobi iteration; n is the block size. */
export interface TraceIteration {
  /** Position of the block's first token. */
  position: number;
  /** [n] Tokens that went through the model. */
  block: number[];
  /** [n] Kinds of the block's tokens; the first is always `confirmed`. */
  kinds: TraceKind[];
  /** [n] The model's choice after each token of the block. */
  choices: number[];
  /** Emitted tokens: the accepted drafts and the choice after them. */
  emitted: number[];
  /** Length of the confirmed text after this iteration. */
  textLength: number;
  forwardMilliseconds: number;
}

/** All iterations of one generation. */
export interface Trace {
  model: string;
  blockSize: number;
  prompt: string;
  promptTokens: number;
  text: string;
  /** Texts of all tokens in blocks and choices, by id. */
  tokens: Record<number, string>;
  iterations: TraceIteration[];
  emittedTokens: number;
  fastForwardedTokens: number;
  stationaryTokens: number;
  forwardMilliseconds: number;
}

/**
 * Answers a prompt greedily and records every Jacobi iteration.
 *
 * @throws TypeError, RangeError; {@link CllmError} of createDecoder() and of sequences; the signal's reason.
 * @example
 * const { iterations } = await trace(model, "SELECT", { blockSize: 16 });
 */
export async function trace(model: Model, input: Input, options: TraceOptions = {}): Promise<Trace> {
  const settings = traceSettings(options);
  const { blockSize, maxTokens, threads } = settings;
  const prompt = model.promptTokens(input);
  const contextSize = prompt.length + maxTokens + blockSize;
  await using decoder = await model.createDecoder({ blockSize, threads, contextSize });
  const sequence = await decoder.sequence();
  await sequence.prefill(prompt);
  const iterations = await iterateToEnd(model, sequence, settings);
  const answer = iterations.flatMap(({ emitted }) => emitted);
  const kinds = iterations.flatMap((iteration) => iteration.kinds);
  const stationary = kinds.filter((kind) => kind === "stationary").length;
  const tokens = new Set(iterations.flatMap(({ block, choices }) => [...block, ...choices]));
  return {
    model: model.info.description,
    blockSize,
    prompt: model.detokenize(prompt, { renderSpecial: true }),
    promptTokens: prompt.length,
    text: model.detokenize(answer),
    tokens: Object.fromEntries([...tokens].map((id) => [id, tokenText(model, id)])),
    iterations,
    emittedTokens: answer.length,
    fastForwardedTokens: stationary + kinds.filter((kind) => kind === "fastForwarded").length,
    stationaryTokens: stationary,
    forwardMilliseconds: iterations.reduce((sum, { forwardMilliseconds }) => sum + forwardMilliseconds, 0),
  };
}

type TraceSettings = ReturnType<typeof traceSettings>;

function traceSettings(options: TraceOptions) {
  return readOptions(options, (read) => ({
    blockSize: read.integer("blockSize", 2, MAX_BLOCK_SIZE, DEFAULT_BLOCK_SIZE),
    maxTokens: read.integer("maxTokens", 1, MAX_CONTEXT_SIZE, DEFAULT_EVALUATED_TOKENS),
    seed: read.integer("seed", 0, MAX_SEED, 0),
    threads: read.integer("threads", 1, MAX_THREADS, defaultThreads()),
    signal: read.abortSignal("signal"),
  }));
}

/** Iterates until the model ends its answer or `maxTokens` are emitted. */
async function iterateToEnd(
  model: Model,
  sequence: Sequence,
  { blockSize, maxTokens, seed, signal }: TraceSettings,
): Promise<TraceIteration[]> {
  const iterations: TraceIteration[] = [];
  const answer: number[] = [];
  let ended = false;
  while (!ended) {
    signal?.throwIfAborted();
    const iteration = await sequence.iterate({ blockSize, seed, draftSource: "auto" });
    const { block, position, choices, forwardMilliseconds } = iteration;
    const emitted: number[] = [];
    for (const token of iteration.tokens) {
      emitted.push(token);
      answer.push(token);
      ended = model.token(token).endOfGeneration || answer.length >= maxTokens;
      if (ended) break;
    }
    const kinds = classify(block, position, Math.min(iteration.accepted, emitted.length), iterations.at(-1));
    const textLength = model.detokenize(answer).length;
    iterations.push({ position, block, kinds, choices, emitted, textLength, forwardMilliseconds });
  }
  return iterations;
}

/**
 * Finds the kind of each token of a block. An accepted draft is stationary when it stood at its position in the iteration
 * before, behind a token that was still wrong (CLLM, arXiv 2403.00835, section 3.3), and else fast-forwarded only.
 */
function classify(
  block: readonly number[],
  position: number,
  accepted: number,
  previous: TraceIteration | undefined,
): TraceKind[] {
  return block.map((token, j) => {
    if (j === 0) return "confirmed";
    if (j > accepted) return "rejected";
    if (previous === undefined) return "fastForwarded";
    const previousSlot = position + j - previous.position;
    const wasThere = previous.block[previousSlot] === token && previous.kinds[previousSlot] === "rejected";
    return wasThere ? "stationary" : "fastForwarded";
  });
}

/** The text of a token, or the vocabulary's spelling for a part of a character, which has no text. */
function tokenText(model: Model, id: number): string {
  const text = model.detokenize([id], { renderSpecial: true });
  return text === "" || text.includes("\uFFFD") ? model.token(id).text : text;
}
