import type { Choosing, DraftSource, NativeStats, TokenRules } from "../addon.js";
import { type ChatMessage, chatMessages } from "../chat/template.js";
import { CllmError } from "../errors.js";
import type { Model } from "../model.js";
import * as check from "../options.js";
import { onAbort } from "./abort.js";
import type { Commands } from "./commands.js";
import {
  BIAS_NAMES,
  type BiasOptions,
  RULE_NAMES,
  type RuleOptions,
  readChoosing,
  readRules,
  SAMPLING_NAMES,
  type SamplingOptions,
} from "./sampling.js";
import { ChunkStream, type GenerateStream } from "./stream.js";

/**
 * A prompt: text (tokenised with BOS where the model wants it; control tokens in it stay text), token ids (taken as they
 * are), or chat messages (rendered with the model's template).
 */
export type Input = string | readonly number[] | Int32Array | readonly ChatMessage[];

/** Options of generate() and stream(). */
export interface GenerateOptions extends SamplingOptions, BiasOptions, RuleOptions {
  /** Tokens to emit at most, at least 1. Default: until the context is full. */
  maxTokens?: number | undefined;
  /** End where one of these texts appears; the text ends right before it. */
  stop?: string | readonly string[] | undefined;
  /** Ends the generation at the next iteration; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Tokens per block n, from 1 (ordinary decoding) to the decoder's blockSize, or `auto`. Default: the decoder's. */
  blockSize?: number | "auto" | undefined;
  /** Where drafts come from; changes the work, never the text. Default: the decoder's. See {@link DraftSource}. */
  draftSource?: DraftSource | undefined;
  /** Write control tokens into the text. Default false. */
  renderSpecial?: boolean | undefined;
  /** Tell how probable each token was, and so many of the most probable ones, 0 to 100. Default: nothing is told. */
  logprobs?: number | undefined;
}

/** Counts of one generation. */
export interface GenerateStats {
  /** Tokens of the prompt, cached or not. */
  promptTokens: number;
  /** Prompt tokens whose KV rows were there already (the longest common prefix with the lane). */
  cachedTokens: number;
  /** Tokens of the answer, the one that ended it included. */
  emittedTokens: number;
  /** Jacobi iterations, that is forward passes after the prompt. */
  iterations: number;
  /** emittedTokens / iterations: 1 for ordinary decoding, 0 without iterations. */
  tokensPerIteration: number;
  /** Draft tokens accepted beyond the one token an iteration always gives (CLLM, arXiv 2403.00835, section 3.3). */
  fastForwardedTokens: number;
  /**
   * Of the fast-forwarded tokens, those that already stood at their position in the iteration before, when a token in
   * front of them was still wrong, and stayed (CLLM, arXiv 2403.00835, section 3.3).
   */
  stationaryTokens: number;
  /** How many iterations had which block size: with `auto`, what was found to pay. */
  blockSizes: Record<number, number>;
  /** How many iterations verified how many blocks at once. */
  candidates: Record<number, number>;
  /** Time of the forward passes over the prompt. */
  prefillMilliseconds: number;
  /** Time of the iterations, all engine work included; other lanes' prefill is not. */
  decodeMilliseconds: number;
  /** Of decodeMilliseconds, the part inside llama.cpp. */
  forwardMilliseconds: number;
  /** emittedTokens per second of decodeMilliseconds; 0 when no time has passed. */
  tokensPerSecond: number;
}

export interface GenerateResult {
  text: string;
  /** Every emitted token, the one that ended the generation included. */
  tokens: number[];
  /** `eog`: an end-of-generation token; `stop`: a stop string; `length`: maxTokens or the context's end. */
  finishReason: "eog" | "stop" | "length";
  /** The seed that was used: with it, the same options and a temperature the text comes again. */
  seed: number;
  /** One for each of `tokens`, or null where they were not asked for. */
  logprobs: TokenLogprobs[] | null;
  stats: GenerateStats;
}

/**
 * Natural logarithms of probabilities: softmax of the logits that the token was chosen from, after biases, penalties and
 * grammar, before temperature and what is cut off.
 */
export interface TokenLogprobs {
  token: number;
  logprob: number;
  /** The most probable first. */
  top: { token: number; logprob: number }[];
}

export type { DraftSource } from "../addon.js";
export const DRAFT_SOURCES = ["auto", "random", "choices", "lookup"] as const;

/** What a generation runs on: a decoder and, for a sequence, its native id (0 = any free lane). */
export interface Target {
  model: Model;
  commands: Commands;
  /** The largest. */
  blockSize: number;
  /** Whether requests that name no block size leave it to the engine. */
  autoBlockSize: boolean;
  /** Whether `auto` is the decoder's blockSize. */
  deterministic: boolean;
  /** Of requests without one; null: 0 for greedy ones, a drawn one for others. */
  seed: number | null;
  draftSource: DraftSource;
  sequence: number;
  /** Aborts every generation of the sequence. */
  stop?: AbortSignal;
  /** Told what the sequence's lane holds after a generation, finished or aborted: prompt and emitted tokens. */
  onLane?: (tokens: number[]) => void;
}

function isChat(input: readonly unknown[]): input is readonly ChatMessage[] {
  return typeof input[0] === "object" && input[0] !== null;
}

/** Token ids of an input; never empty. */
export function promptTokens(model: Model, input: Input): Int32Array {
  let tokens: Int32Array;
  if (typeof input === "string") {
    tokens = Int32Array.from(model.tokenize(input, { addSpecial: true }));
    if (tokens.length === 0) throw check.rangeError("a prompt of at least one token", "input", input);
  } else if (Array.isArray(input) && isChat(input)) {
    const text = model.applyChatTemplate(chatMessages(input));
    const { bos } = model.specialTokens;
    const begins = bos !== null && text.startsWith(model.detokenize([bos], { renderSpecial: true }));
    tokens = Int32Array.from(model.tokenize(text, { addSpecial: !begins, parseSpecial: true }));
    if (tokens.length === 0) throw check.rangeError("messages that render to at least one token", "input", input);
  } else if (Array.isArray(input) || input instanceof Int32Array) {
    tokens = check.tokenIds(input, "input", model.info.vocabSize);
    if (tokens.length === 0) throw check.rangeError("a prompt of at least one token", "input", input);
  } else {
    throw check.typeError("a string, an array of token ids or an array of chat messages", "input", input);
  }
  return tokens;
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
  const given = check.optionsObject(options, [
    "maxTokens",
    "stop",
    "signal",
    "blockSize",
    "draftSource",
    "renderSpecial",
    "logprobs",
    ...SAMPLING_NAMES,
    ...BIAS_NAMES,
    ...RULE_NAMES,
  ]);
  const choosing = readChoosing(given, target.seed, target.model.info.vocabSize);
  const signal = check.abortSignal(given.signal);
  return {
    signals: [signal, target.stop].filter((entry) => entry != null),
    maxTokens: check.integer(given.maxTokens, "maxTokens", 1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
    stop: check.stopStrings(given.stop),
    blockSize: readBlockSize(given.blockSize, target),
    seed: choosing.seed,
    choosing,
    draftSource: check.oneOf(given.draftSource, "draftSource", DRAFT_SOURCES, target.draftSource),
    renderSpecial: check.boolean(given.renderSpecial, "renderSpecial", false),
    rules: readRules(given),
    logprobs: check.integer(given.logprobs, "logprobs", 0, 100, -1),
    tokens: promptTokens(target.model, input),
  };
}

/** 0 is auto, for the addon too. */
function readBlockSize(value: unknown, target: Target): number {
  if (value === undefined) return target.autoBlockSize ? 0 : target.blockSize;
  if (value === "auto") return target.deterministic ? target.blockSize : 0;
  return check.integer(value, "blockSize", 1, target.blockSize, 1);
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
  const { signals, ...rest } = request;
  for (const signal of signals) signal.throwIfAborted();
  const { id, answer } = target.commands.send(
    (native, id) => native.generate(id, { ...rest, sequence: target.sequence, stream: onChunk !== null }),
    onChunk,
  );
  const abort = () => target.commands.abort(id);
  const forget = signals.map((signal) => onAbort(signal, abort));
  try {
    const event = await answer;
    if (event.type !== "done") throw new Error(`Unexpected answer ${event.type} to generate`);
    const { finishReason } = event;
    const tokens = Array.from(event.tokens);
    // promptTokens is 0 when it was aborted before it got a lane.
    if (event.stats.promptTokens > 0) target.onLane?.([...rest.tokens, ...tokens]);
    if (finishReason === "abort") {
      throw signals.find((signal) => signal.aborted)?.reason ?? new CllmError("CLLM_ABORTED", "Aborted");
    }
    const logprobs =
      rest.logprobs < 0 ? null : event.logprobs.map((one, i) => ({ token: tokens[i] as number, ...one }));
    return { text: event.text, tokens, finishReason, seed: rest.seed, logprobs, stats: toStats(event.stats) };
  } finally {
    for (const one of forget) one();
  }
}

/** Starts an operation, now or when its turn comes. */
export type Schedule = <T>(operation: () => Promise<T>) => Promise<T>;

const atOnce: Schedule = (operation) => operation();

/** Waits for its turn. An abort meanwhile rejects at once; the turn then passes unused, because `start` sees it too. */
async function inTurn(
  { signals }: Request,
  schedule: Schedule,
  start: () => Promise<GenerateResult>,
): Promise<GenerateResult> {
  for (const signal of signals) signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const waiting = signals.map((signal) => onAbort(signal, () => reject(signal.reason)));
    const started = () => {
      for (const forget of waiting) forget();
    };
    schedule(() => {
      started();
      return start();
    })
      .then(resolve, reject)
      .finally(started);
  });
}

/**
 * generate() of Decoder and Sequence. The input is read before it returns: what the caller does to an array afterwards
 * has no effect, however long the turn takes to come.
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
  const stopped = new AbortController();
  const stop = () => stopped.abort();
  let request: Request;
  try {
    request = readRequest(target, input, options);
  } catch (error) {
    if (!(error instanceof CllmError)) throw error;
    return new ChunkStream(() => Promise.reject(error), stop);
  }
  request.signals.push(stopped.signal);
  return new ChunkStream(
    (push) =>
      inTurn(request, schedule, () =>
        run(target, request, ({ text, tokens }) => push({ text, tokens: Array.from(tokens) })),
      ),
    stop,
  );
}
