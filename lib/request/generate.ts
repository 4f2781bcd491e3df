import type { Choosing, DraftSource, NativeStats, TokenRules } from "../addon.js";
import { CllmError } from "../errors.js";
import { MAX_LOGPROBS } from "../limits.js";
import type { Input, LoadedModel } from "../model-info.js";
import { type OptionsReader, readOptions, stopStrings } from "../options.js";
import { onAbort } from "./abort.js";
import type { Commands } from "./commands.js";
import type { GenerateResult, GenerateStats, GenerateStream } from "./result.js";
import { type BiasOptions, type RuleOptions, readChoosing, readRules, type SamplingOptions } from "./sampling.js";
import { ChunkStream } from "./stream.js";

/** Options of generate() and stream(). */
export interface GenerateOptions extends SamplingOptions, BiasOptions, RuleOptions {
  /** Tokens to emit at most, at least 1. Default: until the context is full. */
  maxTokens?: number | undefined;
  /** End where one of these strings appears; the answer's text ends right before it. */
  stop?: string | readonly string[] | undefined;
  /** Ends the generation at the next iteration; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Tokens per block n, from 1 (ordinary decoding) to the decoder's blockSize, or `auto`. Default: the decoder's. */
  blockSize?: number | "auto" | undefined;
  /** Where drafts come from; changes the work, never the text. Default: the decoder's. See {@link DraftSource}. */
  draftSource?: DraftSource | undefined;
  /** Write control tokens into the text. Default false. */
  renderSpecial?: boolean | undefined;
  /**
   * Report each token's log-probability, and those of this many of the most probable tokens, 0 to 100. Default: no report.
   */
  logprobs?: number | undefined;
}

export type { DraftSource } from "../addon.js";
export const DRAFT_SOURCES = ["auto", "random", "choices", "lookup"] as const;

/** What a generation runs on: a decoder and, for a sequence, its native id (0 = any free lane). */
export interface Target {
  model: LoadedModel;
  commands: Commands;
  /** The decoder's largest block. */
  blockSize: number;
  /** Whether requests that name no block size leave it to the engine. */
  autoBlockSize: boolean;
  /** Whether `auto` means the decoder's blockSize. */
  deterministic: boolean;
  /** Seed of requests that name none; null means 0 for greedy requests and a drawn seed for others. */
  seed: number | null;
  draftSource: DraftSource;
  sequence: number;
  /** Aborts every generation of the sequence. */
  stop?: AbortSignal;
  /** Called after a generation, finished or aborted, with the tokens that the lane then holds: prompt and answer. */
  onLane?: (tokens: number[]) => void;
}

interface Request {
  tokens: Int32Array;
  maxTokens: number;
  blockSize: number;
  seed: number;
  choosing: Choosing;
  draftSource: DraftSource;
  stop: string[];
  renderSpecial: boolean;
  rules: TokenRules | null;
  logprobs: number;
  signals: AbortSignal[];
}

function readRequest(target: Target, input: Input, options: GenerateOptions): Request {
  return {
    ...readOptions(options, (read) => {
      const maxTokens = read.integer("maxTokens", 1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
      const choosing = readChoosing(read, target.seed, target.model.info.vocabSize);
      const signal = read.abortSignal();
      return {
        signals: [signal, target.stop].filter((entry) => entry != null),
        maxTokens,
        stop: stopStrings(read.value("stop")),
        blockSize: readBlockSize(read, target),
        seed: choosing.seed,
        choosing,
        draftSource: read.oneOf("draftSource", DRAFT_SOURCES, target.draftSource),
        renderSpecial: read.boolean("renderSpecial", false),
        rules: readRules(read),
        logprobs: read.integer("logprobs", 0, MAX_LOGPROBS, -1),
      };
    }),
    tokens: target.model.promptTokens(input),
  };
}

/** The block size as the addon takes it: 0 leaves the choice to the engine, iteration by iteration. */
function readBlockSize(read: OptionsReader, target: Target): number {
  const value = read.value("blockSize");
  if (value === undefined) return target.autoBlockSize ? 0 : target.blockSize;
  if (value === "auto") return target.deterministic ? target.blockSize : 0;
  return read.requiredInteger("blockSize", 1, target.blockSize);
}

function toStats(native: NativeStats): GenerateStats {
  const { emittedTokens, iterations, decodeMilliseconds } = native;
  return {
    ...native,
    tokensPerIteration: iterations > 0 ? emittedTokens / iterations : 0,
    tokensPerSecond: decodeMilliseconds > 0 ? (emittedTokens / decodeMilliseconds) * 1000 : 0,
  };
}

type OnChunk = (chunk: { text: string; tokens: Int32Array }) => void;

async function run(target: Target, request: Request, onChunk: OnChunk | null): Promise<GenerateResult> {
  const { signals, ...options } = request;
  for (const signal of signals) signal.throwIfAborted();
  const { id, answer } = target.commands.send(
    (native, id) => native.generate(id, { ...options, sequence: target.sequence, stream: onChunk !== null }),
    onChunk,
  );
  const abort = () => target.commands.abort(id);
  const removals = signals.map((signal) => onAbort(signal, abort));
  try {
    const event = await answer;
    if (event.type !== "done") throw new Error(`Unexpected answer ${event.type} to generate`);
    const { finishReason } = event;
    const tokens = Array.from(event.tokens);
    // promptTokens is 0 when the request was aborted before it got a lane.
    if (event.stats.promptTokens > 0) target.onLane?.([...options.tokens, ...tokens]);
    if (finishReason === "abort") {
      throw signals.find((signal) => signal.aborted)?.reason ?? new CllmError("CLLM_ABORTED", "Aborted");
    }
    const tokenLogprobs = event.logprobs.map((logprobs, i) => ({ token: tokens[i] as number, ...logprobs }));
    const logprobs = options.logprobs < 0 ? null : tokenLogprobs;
    return { text: event.text, tokens, finishReason, seed: options.seed, logprobs, stats: toStats(event.stats) };
  } finally {
    for (const remove of removals) remove();
  }
}

/** Starts an operation, now or when its turn comes. */
export type Schedule = <T>(operation: () => Promise<T>) => Promise<T>;

const atOnce: Schedule = (operation) => operation();

/**
 * Calls `start` when its turn comes. An abort before that rejects at once; when the turn comes, `start` rejects too, so
 * the turn passes unused.
 */
async function inTurn(
  { signals }: Request,
  schedule: Schedule,
  start: () => Promise<GenerateResult>,
): Promise<GenerateResult> {
  for (const signal of signals) signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const removals = signals.map((signal) => onAbort(signal, () => reject(signal.reason)));
    const stopListening = () => {
      for (const remove of removals) remove();
    };
    schedule(() => {
      stopListening();
      return start();
    })
      .then(resolve, reject)
      .finally(stopListening);
  });
}

/**
 * generate() of Decoder and Sequence. It copies the input before it returns, so that changing an array afterwards has
 * no effect, however long the turn takes to come.
 */
export async function generateOn(
  target: Target,
  input: Input,
  options: GenerateOptions,
  schedule = atOnce,
): Promise<GenerateResult> {
  const request = readRequest(target, input, options);
  return inTurn(request, schedule, () => run(target, request, null));
}

/** stream() of Decoder and Sequence. A mistake in the call (TypeError, RangeError) throws, a CllmError rejects. */
export function streamOn(target: Target, input: Input, options: GenerateOptions, schedule = atOnce): GenerateStream {
  const controller = new AbortController();
  const stop = () => controller.abort();
  let request: Request;
  try {
    request = readRequest(target, input, options);
  } catch (error) {
    if (!(error instanceof CllmError)) throw error;
    return new ChunkStream(() => Promise.reject(error), stop);
  }
  request.signals.push(controller.signal);
  return new ChunkStream(
    (push) =>
      inTurn(request, schedule, () =>
        run(target, request, ({ text, tokens }) => push({ text, tokens: Array.from(tokens) })),
      ),
    stop,
  );
}
