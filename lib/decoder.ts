import type { DecoderInfo as NativeInfo, NativeModel, DecoderOptions as NativeOptions } from "./addon.js";
import { type BinaryInfo, binaryInfo } from "./binary/binding.js";
import { CllmError } from "./errors.js";
import {
  DEFAULT_BLOCK_SIZE,
  DEFAULT_CONTEXT_SIZE,
  MAX_BLOCK_SIZE,
  MAX_BURST,
  MAX_CANDIDATES,
  MAX_CONTEXT_SIZE,
  MAX_LANES,
  MAX_PART_TOKENS,
  MAX_PREFILL_CHUNK,
  MAX_SEED,
  MAX_THREADS,
} from "./limits.js";
import { defaultThreads } from "./machine/threads.js";
import type { Input, LoadedModel, ModelInfo } from "./model-info.js";
import { maxBlockSize } from "./model-info.js";
import { type OptionsReader, rangeError, readOptions } from "./options.js";
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
import { Sequence } from "./sequence.js";

/** Options of Model.createDecoder(). */
export interface DecoderOptions {
  /**
   * Tokens a lane can hold, prompt and answer together. Default: what the model was trained on, at most 4096. Models
   * with learned positions (GPT-2, StarCoder, MPT) cannot go beyond what they were trained on.
   */
  contextSize?: number | undefined;
  /** Sequences decoded at once, 1 to 256; each has a context of its own. Default 1. */
  lanes?: number | undefined;
  /**
   * Tokens per block n, 1 (ordinary decoding) to 128; requests may use less. In each iteration `auto` takes the size
   * that pays most, by how many draft tokens have been accepted and how long passes have taken: up to 16 tokens, or what
   * a consistency LLM was trained for (`model.info.trainBlockSize`), and no more than a quarter of the free memory for
   * snapshots of recurrent states. Models with such states have blocks of at most 48 tokens, or of 1 where llama.cpp keeps
   * no snapshots (docs/architectures.md). Default `auto`, or 1 for the latter.
   */
  blockSize?: number | "auto" | undefined;
  /**
   * Blocks that are verified per lane at once, 1 to 8: the lane's first block, and blocks made of what followed its
   * last tokens in prompt and answer; the block with the most accepted tokens wins. `candidates` x `blockSize` is at
   * most 48. With a block size of `auto` this is a limit, and 1, 2, 4 or 8 candidates are used, whatever pays most. They
   * pay where more tokens make a pass only a little dearer, as on a GPU; the answer's tokens are the same. They need the
   * resident runner, flash attention and a model without recurrent state; requests with a grammar or penalties have one
   * candidate. Default 1.
   */
  candidates?: number | undefined;
  /**
   * Makes `auto` the block size that the model was trained for, or else 2, instead of the size that pays most. On a CPU,
   * and with more than one token per block, the time of passes then has no influence on near-ties
   * (docs/exactness.md). Default false.
   */
  deterministic?: boolean | undefined;
  /**
   * Compute threads, 1 to 512, at most. Default: physical cores. While other programs, or other decoders, keep cores busy,
   * fewer are used, if that is faster; not where attention is llama.cpp's own (docs/exactness.md).
   */
  threads?: number | undefined;
  /**
   * Prompt tokens per prefill pass, 1 to 4096, at most. Default: where attention is node-cllm's own, which gives every
   * prompt token the same KV row in passes of any length, up to 128, but no more than take about 100 ms while other lanes
   * decode, or 400 ms while none does; else 32 (docs/exactness.md).
   */
  prefillChunk?: number | undefined;
  /** Flash attention: true, false, or (default) what llama.cpp finds best. */
  flashAttention?: boolean | undefined;
  /**
   * Type of the KV rows: f16 (default), f32, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl. Quantised ones change the
   * tokens.
   */
  kvType?: string | undefined;
  /**
   * Whether layers with sliding-window attention keep the rows of the whole context. Default false: they keep the window,
   * which takes far less memory in a long context (always true with candidates). A prompt that continues an earlier one
   * from a place further back than the window's rows is then read again from its beginning.
   */
  swaFull?: boolean | undefined;
  /**
   * Which code runs the Jacobi loop. `resident` keeps it in device memory; docs/architectures.md says for which models.
   * `host` goes through llama_decode and works with every model. Default `auto`: resident where the model allows. The
   * tokens are the same.
   */
  runner?: "auto" | "resident" | "host" | undefined;
  /**
   * Iterations that the resident runner does in one go, 1 to 64. The shape of a pass and the source of drafts are chosen
   * between two bursts. Text is sent after every iteration, and an abort or a new request ends the burst. Longer bursts
   * save time only on a GPU. Default 1, with the CUDA binary 16.
   */
  burst?: number | undefined;
  /** Where the drafts of requests that name no source come from. Default `auto`. */
  draftSource?: DraftSource | undefined;
  /**
   * Seed of requests that name none, an unsigned 32-bit integer. Default: each request with a temperature draws a seed.
   */
  seed?: number | undefined;
}

/** How a decoder really runs. */
export interface DecoderInfo extends NativeInfo {
  /** Whether requests that name no block size get the one that pays most; `blockSize` is then the largest size. */
  autoBlockSize: boolean;
  /** The latest choice of `auto` when info was read; null before the first one, and when the decoder is disposed. */
  chosen: { blockSize: number; candidates: number } | null;
  /** Whether the machine's timing has no influence on block sizes. */
  deterministic: boolean;
  /** Where the drafts of requests that name no source come from. */
  draftSource: DraftSource;
  /** Seed of requests that name none, or null. */
  seed: number | null;
  /** Which addon binary runs, and why. */
  binary: BinaryInfo;
}

/** The options, validated and with defaults. */
export interface DecoderSettings {
  native: NativeOptions;
  autoBlockSize: boolean;
  deterministic: boolean;
  draftSource: DraftSource;
  seed: number | null;
}

const KV_TYPES = ["f16", "f32", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"];
const RUNNERS = ["auto", "resident", "host"] as const;
/** Iterations that share one launch where bursts are recorded, which takes about ten microseconds. */
const GPU_BURST = 16;
/** The smallest block size whose logits are equal to the bit to those of all larger ones. */
const DETERMINISTIC_BLOCK_SIZE = 2;

/**
 * Validates the options against the model and fills in the defaults.
 *
 * @throws TypeError, RangeError; {@link CllmError} `CLLM_UNSUPPORTED_MODEL` for larger blocks than the model's recurrent
 * state can be rolled back over.
 */
export function decoderSettings(options: DecoderOptions, model: ModelInfo): DecoderSettings {
  const trainedContextSize = model.trainContextSize > 0 ? model.trainContextSize : DEFAULT_CONTEXT_SIZE;
  const defaultContextSize = Math.max(2, Math.min(trainedContextSize, DEFAULT_CONTEXT_SIZE));
  return readOptions(options, (read) => {
    const deterministic = read.boolean("deterministic", false);
    const candidates = read.integer("candidates", 1, MAX_CANDIDATES, 1);
    const { blockSize, autoBlockSize } = readBlockSize(read, model, deterministic, candidates);
    return {
      native: {
        contextSize: read.integer("contextSize", 2, MAX_CONTEXT_SIZE, defaultContextSize),
        lanes: read.integer("lanes", 1, MAX_LANES, 1),
        blockSize,
        candidates,
        threads: read.integer("threads", 1, MAX_THREADS, defaultThreads()),
        prefillChunk: read.integer("prefillChunk", 1, MAX_PREFILL_CHUNK, 0),
        flashAttention: read.boolean("flashAttention", null),
        kvType: read.oneOf("kvType", KV_TYPES, "f16"),
        swaFull: read.boolean("swaFull", false),
        runner: read.oneOf("runner", RUNNERS, "auto"),
        burst: read.integer("burst", 1, MAX_BURST, binaryInfo().backend === "cuda" ? GPU_BURST : 1),
        consistencyModel: model.trainBlockSize !== null,
      },
      autoBlockSize,
      deterministic,
      draftSource: read.oneOf("draftSource", DRAFT_SOURCES, "auto"),
      seed: read.integer("seed", 0, MAX_SEED, null),
    };
  });
}

/** Reads the largest block of the decoder, and whether the engine chooses the size of each block. */
function readBlockSize(read: OptionsReader, model: ModelInfo, deterministic: boolean, candidates: number) {
  const value = read.value("blockSize");
  const modelLimit = maxBlockSize(model);
  const isAuto = value === "auto" || (value === undefined && modelLimit > 1);
  const autoBlockSize = isAuto && !deterministic;
  const untrainedBlockSize = deterministic ? DETERMINISTIC_BLOCK_SIZE : DEFAULT_BLOCK_SIZE;
  const defaultBlockSize = Math.min(model.trainBlockSize ?? untrainedBlockSize, modelLimit);
  // With a fixed block size, the candidates of a lane must fit into one part of a pass.
  const limit = candidates > 1 && !autoBlockSize ? Math.floor(MAX_PART_TOKENS / candidates) : MAX_BLOCK_SIZE;
  const blockSize = isAuto
    ? Math.min(defaultBlockSize, limit)
    : read.integer("blockSize", 1, MAX_BLOCK_SIZE, defaultBlockSize);
  if (blockSize > limit) {
    throw rangeError(`at most ${limit}, for ${candidates} candidates`, "blockSize", blockSize);
  }
  if (blockSize > modelLimit) {
    throw new CllmError(
      "CLLM_UNSUPPORTED_MODEL",
      `Expected a blockSize of at most ${modelLimit} for ${model.description} but received ${blockSize}: ` +
        "its recurrent state cannot be rolled back over more rejected drafts",
    );
  }
  return { blockSize, autoBlockSize };
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
  /** The model that it decodes with. */
  readonly model: LoadedModel;
  readonly #info: Omit<DecoderInfo, "chosen" | "launches">;
  readonly #commands: Commands;
  readonly #target: Target;

  private constructor(model: LoadedModel, commands: Commands, settings: DecoderSettings) {
    const { native, ...defaults } = settings;
    this.model = model;
    this.#info = { ...commands.native.info(), ...defaults, binary: binaryInfo() };
    this.#commands = commands;
    this.#target = { model, commands, blockSize: native.blockSize, ...defaults, sequence: 0 };
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

  /**
   * How it runs: the options in force, the runner and the binary with the reasons, what `auto` chose last, and how a GPU
   * was given its work.
   */
  get info(): Readonly<DecoderInfo> {
    if (this.disposed) return Object.freeze({ ...this.#info, chosen: null, launches: null });
    const { native } = this.#commands;
    return Object.freeze({ ...this.#info, chosen: native.chosen(), launches: native.info().launches });
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
   * Generates like generate(), and gives the answer piece by piece as it is made.
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
   * Takes a free lane and holds it as a sequence.
   *
   * @throws {@link CllmError} `CLLM_NO_FREE_LANE`, `CLLM_DISPOSED`
   */
  async sequence(): Promise<Sequence> {
    const answer = await this.#commands.send((native, id) => native.openSequence(id)).answer;
    if (answer.type !== "sequence") throw new Error(`Unexpected answer ${answer.type} to openSequence`);
    return new Sequence({ ...this.#target, sequence: answer.sequence }, []);
  }

  /**
   * Stops at once, rejects pending calls with `CLLM_DISPOSED`, and frees the context. Idempotent: all calls get the same
   * promise.
   */
  dispose(): Promise<void> {
    return this.#commands.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
