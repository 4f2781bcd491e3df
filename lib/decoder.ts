import type { DecoderInfo as NativeInfo, NativeModel, DecoderOptions as NativeOptions } from "./addon.js";
import { type BinaryInfo, binaryInfo } from "./binary/binding.js";
import { CllmError } from "./errors.js";
import { LARGEST_PART, MOST_CANDIDATES } from "./machine/memory.js";
import { defaultThreads } from "./machine/threads.js";
import type { Input, LoadedModel, ModelInfo } from "./model-info.js";
import * as check from "./options.js";
import type { Commands } from "./request/commands.js";
import {
  DRAFT_SOURCES,
  type DraftSource,
  type GenerateOptions,
  generateOn,
  streamOn,
  type Target,
} from "./request/generate.js";
import type { GenerateResult, GenerateStream } from "./request/result.js";
import { SEED_MAX } from "./request/sampling.js";
import { Sequence } from "./sequence.js";

/** Options of Model.createDecoder(). */
export interface DecoderOptions {
  /**
   * Tokens a lane can hold, prompt and answer together. Default: what the model was trained on, at most 4096. Models with
   * learned positions (GPT-2, StarCoder, MPT) cannot go beyond what they were trained on.
   */
  contextSize?: number | undefined;
  /** Sequences decoded at once, 1 to 256; each has a context of its own. Default 1. */
  lanes?: number | undefined;
  /**
   * Tokens per block n, 1 (ordinary decoding) to 128; requests may use less. `auto`: from iteration to iteration what pays
   * most, by what drafts have been worth and passes have cost, up to 16 tokens or what a consistency LLM was trained for
   * (`model.info.trainBlockSize`). Default `auto`, or 1 if the model cannot roll back.
   */
  blockSize?: number | "auto" | undefined;
  /**
   * Blocks that are verified per lane at once, 1 to 8: beside the lane's own, what followed its last tokens in prompt and
   * answer; the one with most accepted tokens wins. A pass has so many times `blockSize` tokens, at most 48 together. With
   * a block size of `auto` it is the most: 1, 2, 4 or 8 up to it, as pays. It pays where a pass costs little more for
   * them, on a GPU; the tokens are the same. Needs the resident runner and flash attention; requests with a grammar,
   * penalties or the draft source `recycled` have one. Default 1.
   */
  candidates?: number | undefined;
  /**
   * `auto` is the block size that the model was trained for, or 2, instead of what pays most: so on a CPU, and with more
   * than one token a block, no near-tie falls otherwise because passes cost something else today (docs/exactness.md).
   * Default false.
   */
  deterministic?: boolean | undefined;
  /** Compute threads, 1 to 512. Default: physical cores. Two decoders at full thread count slow each other down badly. */
  threads?: number | undefined;
  /** Prompt tokens per prefill pass, 1 to 4096. Default 32: see docs/exactness.md before changing it. */
  prefillChunk?: number | undefined;
  /** Flash attention: true, false, or (default) what llama.cpp finds best. */
  flashAttention?: boolean | undefined;
  /** Type of the KV rows: f16 (default), f32, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl. Quantised ones change the tokens. */
  kvType?: string | undefined;
  /**
   * Which code runs the Jacobi loop. `resident` keeps it in device memory; it needs a plain KV cache. `host` goes through
   * llama_decode and works with every model. Default `auto`: resident where the model allows. The tokens are the same.
   */
  runner?: "auto" | "resident" | "host" | undefined;
  /**
   * Iterations that the resident runner does in one go, 1 to 16, before text goes out and aborts and new requests are
   * looked at. More save time only on a GPU. Default 1, with the CUDA binary 8.
   */
  burst?: number | undefined;
  /** Where the drafts of requests that name no source come from. Default `auto`. */
  draftSource?: DraftSource | undefined;
  /** Seed of requests that name none, an unsigned 32-bit integer. Default: each request with a temperature draws one. */
  seed?: number | undefined;
}

/** How a decoder really runs. */
export interface DecoderInfo extends NativeInfo {
  /** Whether requests that name no block size have the one that pays most; `blockSize` is the largest then. */
  autoBlockSize: boolean;
  /** What `auto` has chosen for the last iteration that it chose for, when info was read; null before the first, and when disposed of. */
  chosen: { blockSize: number; candidates: number } | null;
  /** Whether nothing is left to the machine's timing. */
  deterministic: boolean;
  /** Where the drafts of requests that name no source come from. */
  draftSource: DraftSource;
  /** Seed of requests that name none, or null. */
  seed: number | null;
  /** Which addon binary runs, and why. */
  binary: BinaryInfo;
}

/** Validated options. */
export interface DecoderSettings {
  native: NativeOptions;
  autoBlockSize: boolean;
  deterministic: boolean;
  draftSource: DraftSource;
  seed: number | null;
}

const KV_TYPES = ["f16", "f32", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"];
// On a GPU the host's part of an iteration is a synchronisation, some tens of microseconds: shared by as many.
const GPU_BURST = 8;
const RUNNERS = ["auto", "resident", "host"] as const;
const DEFAULT_CONTEXT_SIZE = 4096;
/** The largest of `auto`, but for consistency LLMs: drafts that are looked up are seldom right for longer. */
const DEFAULT_BLOCK_SIZE = 16;
/** The smallest that is equal to the bit to all larger ones. */
const PINNED_BLOCK_SIZE = 2;
// llama.cpp computes batches of 2 to 63 tokens with the same arithmetic, larger ones with another (tiled attention).
// Blocks are small, so prefill in small chunks: then a KV row does not depend on how it came to be written.
const DEFAULT_PREFILL_CHUNK = 32;
const CONTEXT_SIZE_MAX = 1 << 30;

/**
 * Validates the options against the model and fills in the defaults.
 *
 * @throws TypeError, RangeError; {@link CllmError} `CLLM_UNSUPPORTED_MODEL` for blocks on a model that cannot roll back.
 */
export function decoderSettings(options: DecoderOptions, model: ModelInfo): DecoderSettings {
  const given = check.optionsObject(options, [
    "contextSize",
    "lanes",
    "blockSize",
    "candidates",
    "deterministic",
    "threads",
    "prefillChunk",
    "flashAttention",
    "kvType",
    "runner",
    "burst",
    "draftSource",
    "seed",
  ]);
  const trained = model.trainContextSize > 0 ? model.trainContextSize : DEFAULT_CONTEXT_SIZE;
  const deterministic = check.boolean(given.deterministic, "deterministic", false);
  const left = given.blockSize === "auto" || (given.blockSize === undefined && model.canRollBack);
  const autoBlockSize = left && !deterministic;
  const most = model.canRollBack
    ? (model.trainBlockSize ?? (deterministic ? PINNED_BLOCK_SIZE : DEFAULT_BLOCK_SIZE))
    : 1;
  const candidates = check.integer(given.candidates, "candidates", 1, MOST_CANDIDATES, 1);
  const largest = candidates > 1 && !autoBlockSize ? Math.floor(LARGEST_PART / candidates) : 128;
  const blockSize = left ? Math.min(most, largest) : check.integer(given.blockSize, "blockSize", 1, 128, most);
  if (blockSize > largest) {
    throw check.rangeError(`at most ${largest}, for ${candidates} candidates`, "blockSize", blockSize);
  }
  if (blockSize > 1 && !model.canRollBack) {
    throw new CllmError(
      "CLLM_UNSUPPORTED_MODEL",
      `Expected a blockSize of 1 for ${model.description} but received ${blockSize}: ` +
        "a recurrent model's state cannot be rolled back over rejected drafts",
    );
  }
  return {
    native: {
      contextSize: check.integer(
        given.contextSize,
        "contextSize",
        2,
        CONTEXT_SIZE_MAX,
        Math.max(2, Math.min(trained, DEFAULT_CONTEXT_SIZE)),
      ),
      lanes: check.integer(given.lanes, "lanes", 1, 256, 1),
      blockSize,
      candidates,
      threads: check.integer(given.threads, "threads", 1, 512, defaultThreads()),
      prefillChunk: check.integer(given.prefillChunk, "prefillChunk", 1, 4096, DEFAULT_PREFILL_CHUNK),
      flashAttention: check.boolean(given.flashAttention, "flashAttention", null),
      kvType: check.oneOf(given.kvType, "kvType", KV_TYPES, "f16"),
      runner: check.oneOf(given.runner, "runner", RUNNERS, "auto"),
      burst: check.integer(given.burst, "burst", 1, 16, binaryInfo().backend === "cuda" ? GPU_BURST : 1),
      consistencyModel: model.trainBlockSize !== null,
    },
    autoBlockSize,
    deterministic,
    draftSource: check.oneOf(given.draftSource, "draftSource", DRAFT_SOURCES, "auto"),
    seed: given.seed === undefined ? null : check.integer(given.seed, "seed", 0, SEED_MAX, 0),
  };
}

/**
 * A context of `lanes` sequences with one decode thread. Requests beyond the number of lanes wait; a lane that becomes
 * free takes the next one at once. All lanes share one forward pass.
 *
 * @example
 * await using decoder = await model.createDecoder({ lanes: 4, blockSize: 8 });
 * const { text, stats } = await decoder.generate("Once upon a time", { maxTokens: 64 });
 */
export class Decoder implements AsyncDisposable {
  /** The model it decodes with. */
  readonly model: LoadedModel;
  readonly #info: Omit<DecoderInfo, "chosen">;
  readonly #commands: Commands;
  readonly #target: Target;

  private constructor(model: LoadedModel, commands: Commands, settings: DecoderSettings) {
    const { native, ...own } = settings;
    this.model = model;
    this.#info = { ...commands.native.info(), ...own, binary: binaryInfo() };
    this.#commands = commands;
    this.#target = {
      ...{ model, commands, blockSize: native.blockSize, ...own, sequence: 0 },
    };
  }

  /** @internal Use Model.createDecoder(). */
  static async create(
    model: LoadedModel,
    native: NativeModel,
    settings: DecoderSettings,
    commands: Commands,
  ): Promise<Decoder> {
    commands.attach(await native.createDecoder(settings.native, commands.onEvents));
    return new Decoder(model, commands, settings);
  }

  /** How it runs: the options in force, the runner and the binary, and why those, and what `auto` makes of it now. */
  get info(): Readonly<DecoderInfo> {
    return Object.freeze({ ...this.#info, chosen: this.disposed ? null : this.#commands.native.chosen() });
  }

  /** Whether dispose() has been called. */
  get disposed(): boolean {
    return this.#commands.disposed;
  }

  /**
   * Generates an answer on any free lane: the tokens are those of ordinary decoding (with a temperature: with the same
   * seed), whatever the block size.
   *
   * @throws TypeError, RangeError for wrong options; {@link CllmError} `CLLM_CONTEXT_OVERFLOW` (prompt too long),
   * `CLLM_NO_FREE_LANE` (all lanes are held by sequences), `CLLM_CHAT_TEMPLATE`, `CLLM_DECODE_FAILED`, `CLLM_DISPOSED`;
   * the signal's reason after an abort.
   */
  async generate(input: Input, options: GenerateOptions = {}): Promise<GenerateResult> {
    return generateOn(this.#target, input, options);
  }

  /**
   * Like generate(), giving the answer as it is made.
   *
   * @example
   * const stream = decoder.stream("Once upon a time");
   * for await (const { text } of stream) process.stdout.write(text);
   * console.log((await stream.result).stats);
   */
  stream(input: Input, options: GenerateOptions = {}): GenerateStream {
    return streamOn(this.#target, input, options);
  }

  /**
   * Takes a lane for a sequence of its own.
   *
   * @throws {@link CllmError} `CLLM_NO_FREE_LANE`, `CLLM_DISPOSED`
   */
  async sequence(): Promise<Sequence> {
    const answer = await this.#commands.send((native, id) => native.openSequence(id)).answer;
    if (answer.type !== "sequence") throw new Error(`Unexpected answer ${answer.type} to openSequence`);
    return new Sequence({ ...this.#target, sequence: answer.sequence }, []);
  }

  /**
   * Stops at once, rejects what is pending with `CLLM_DISPOSED`, frees the context. Idempotent: all calls get the same
   * promise.
   */
  dispose(): Promise<void> {
    return this.#commands.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
