import { types } from "node:util";
import { type AdapterOptions, readAdapters } from "./adapters.js";
import type { NativeModel, NativeModelInfo } from "./addon.js";
import { addon } from "./binary/binding.js";
import { BACKENDS, type Backend } from "./binary/cuda.js";
import { runTask } from "./binary/native-task.js";
import { type ChatMessage, chatMessages, renderChat } from "./chat/template.js";
import { Decoder, type DecoderOptions, type DecoderSettings, decoderSettings } from "./decoder.js";
import { defaultModel } from "./default-model.js";
import { CllmError } from "./errors.js";
import { MAX_GPU_LAYERS } from "./limits.js";
import { checkContext, checkWeights, limitSnapshots } from "./machine/gpu.js";
import { type ContextNeeds, contextNeeds } from "./machine/memory.js";
import { defaultThreads } from "./machine/threads.js";
import type { Input, LoadedModel, ModelInfo, SpecialTokens, TokenInfo } from "./model-info.js";
import { maxBlockSize } from "./model-info.js";
import { nonEmptyString, rangeError, readOptions, tokenIds, typeError } from "./options.js";
import { Commands } from "./request/commands.js";

/** Options of Model.load(). */
export interface ModelLoadOptions {
  /**
   * `cpu`, `cuda`, or `auto`: CUDA where it is installed and works. A process runs one backend, which its first use of
   * node-cllm decides. Default: the environment variable CLLM_BACKEND, else `auto`.
   */
  backend?: Backend | undefined;
  /**
   * Layers to place on the GPU, the output counting as one more; -1 = all. No effect on the backend cpu. Default -1.
   */
  gpuLayers?: number | undefined;
  /** Map the file instead of reading it: faster to load, and shared between processes. Default true. */
  mmap?: boolean | undefined;
  /**
   * Pack weights for the CPU's products while loading, where there are products for their format: a token costs less, a
   * block much less. Packed weights take memory of this process (`model.info.packedBytes`), and a tied output matrix is
   * packed as a copy; `false` leaves all weights as they are in the file. Default true.
   */
  packWeights?: boolean | undefined;
  /**
   * LoRA adapters (GGUF, as llama.cpp reads them), which are merged into the weights while they are loaded, in memory: a
   * pass costs what it costs without them. Tokens are those of a file that {@link merge} writes. `scale` multiplies an
   * adapter, default 1. The weights are not mapped then. Default: none.
   */
  adapters?: readonly AdapterOptions[] | undefined;
  /** Called with a fraction from 0 to 1, at most once per percent. An error that it throws rejects the load. */
  onProgress?: ((fraction: number) => void) | undefined;
  /** Stops loading; the promise then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

// llama_token_attr of llama.h, bit by bit.
const ATTRIBUTES = [
  "unknown",
  "unused",
  "normal",
  "control",
  "userDefined",
  "byte",
  "normalized",
  "lstrip",
  "rstrip",
  "singleWord",
];

/** The block size in the metadata of a consistency LLM; null where there is none, or none that a decoder can use. */
function trainBlockSize(maxBlockSize: number, metadata: Readonly<Record<string, string>>): number | null {
  const size = Number(metadata["cllm.block_size"]);
  return Number.isInteger(size) && size >= 2 && size <= maxBlockSize ? size : null;
}

function isChat(input: readonly unknown[]): input is readonly ChatMessage[] {
  return typeof input[0] === "object" && input[0] !== null;
}

/**
 * A loaded model: weights and vocabulary. Decoders made from it share the weights.
 *
 * @example
 * await using model = await Model.load("model.gguf");
 * console.log(model.info.description, model.tokenize("Hello"));
 */
export class Model implements LoadedModel, AsyncDisposable {
  /** Path of the model's file. */
  readonly path: string;
  /** Facts about the model, as the file has them. */
  readonly info: Readonly<ModelInfo>;
  /** Ids of the special tokens, and which of them the tokenizer adds by itself. */
  readonly specialTokens: Readonly<SpecialTokens>;
  /** All GGUF metadata as text; long arrays are shortened by llama.cpp. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The model's own chat template (Jinja), or null. */
  readonly chatTemplate: string | null;

  #native: NativeModel | null;
  readonly #gpuLayers: number;
  readonly #nativeInfo: NativeModelInfo;
  // The references are weak, so that a decoder nobody refers to is collected. Pending generations and held sequences
  // keep a decoder's commands alive.
  readonly #decoders = new Set<WeakRef<Commands>>();
  readonly #collected = new FinalizationRegistry<WeakRef<Commands>>((reference) => this.#decoders.delete(reference));
  /** createDecoder() calls in progress. dispose() waits for them, so that nothing native is left after it. */
  readonly #creating = new Set<Promise<unknown>>();
  #disposing: Promise<void> | null = null;

  private constructor(path: string, native: NativeModel, gpuLayers: number) {
    this.path = path;
    this.#native = native;
    this.#gpuLayers = gpuLayers;
    const nativeInfo = native.info();
    this.#nativeInfo = nativeInfo;
    const { bos, eos, eot, nl, pad, sep, addBos, addEos, ...facts } = nativeInfo;
    const { kvBytesPerToken: _, windowedKvBytesPerToken: __, slidingWindow, ...info } = facts;
    const token = (id: number) => (id < 0 ? null : id);
    this.metadata = Object.freeze(native.metadata());
    this.info = Object.freeze({
      ...info,
      slidingWindow: slidingWindow === 0 ? null : slidingWindow,
      trainBlockSize: trainBlockSize(maxBlockSize(info), this.metadata),
    });
    this.specialTokens = Object.freeze({
      bos: token(bos),
      eos: token(eos),
      eot: token(eot),
      nl: token(nl),
      pad: token(pad),
      sep: token(sep),
      addBos,
      addEos,
    });
    this.chatTemplate = native.chatTemplate(null);
  }

  /**
   * Loads a GGUF file on a thread of its own. For a split model, name the first part; the others must lie beside it.
   * The file is checked before llama.cpp sees it. The default is the model that comes with the package
   * ({@link defaultModel}).
   *
   * @throws {@link CllmError} `CLLM_MODEL_NOT_FOUND`, `CLLM_INVALID_MODEL`, `CLLM_UNSUPPORTED_MODEL`,
   * `CLLM_OUT_OF_MEMORY`, or why the addon cannot be loaded (`CLLM_BACKEND_UNAVAILABLE`, `CLLM_BINDING_NOT_FOUND`,
   * `CLLM_UNSUPPORTED_CPU`). The signal's reason after an abort.
   */
  static async load(path: string = defaultModel, options: ModelLoadOptions = {}): Promise<Model> {
    nonEmptyString(path, "path");
    if (path.includes("\0")) throw rangeError("a path without NUL characters", "path", path);
    const { adapters, backend, gpuLayers, mmap, packWeights, onProgress, signal } = readOptions(options, (read) => ({
      adapters: readAdapters(read.value("adapters")),
      backend: read.oneOf("backend", BACKENDS, undefined),
      gpuLayers: read.integer("gpuLayers", -1, MAX_GPU_LAYERS, -1),
      mmap: read.boolean("mmap", true),
      packWeights: read.boolean("packWeights", true),
      onProgress: read.callback<(fraction: number) => void>("onProgress"),
      signal: read.abortSignal(),
    }));
    signal?.throwIfAborted();

    const native = addon(backend);
    checkWeights(path, gpuLayers);
    const nativeOptions = { gpuLayers, mmap, packWeights, adapters, threads: defaultThreads() };
    const model = await runTask((report) => native.loadModel(path, nativeOptions, report), {
      signal,
      onProgress,
      discard: (loaded) => loaded.dispose(),
    });
    return new Model(path, model, gpuLayers);
  }

  /** Whether dispose() has been called. */
  get disposed(): boolean {
    return this.#disposing !== null;
  }

  /**
   * Token ids of a text.
   *
   * @param options.addSpecial put BOS in front and EOS behind where the vocabulary says so; default false. A prompt
   * must not end with that EOS: promptTokens() leaves it out.
   * @param options.parseSpecial read control tokens such as `<|im_end|>` in the text; default false, so that a user's
   * text never becomes one.
   * @throws TypeError for wrong options; {@link CllmError} `CLLM_DISPOSED`
   */
  tokenize(text: string, options: { addSpecial?: boolean; parseSpecial?: boolean } = {}): number[] {
    if (typeof text !== "string") throw typeError("a string", "text", text);
    const { addSpecial, parseSpecial } = readOptions(options, (read) => ({
      addSpecial: read.boolean("addSpecial", false),
      parseSpecial: read.boolean("parseSpecial", false),
    }));
    return Array.from(this.#open().tokenize(text, addSpecial, parseSpecial));
  }

  /**
   * Text of token ids. `renderSpecial` (default false) writes control tokens out.
   *
   * @throws TypeError, RangeError for a value that is no token id of this model; {@link CllmError} `CLLM_DISPOSED`
   */
  detokenize(tokens: readonly number[] | Int32Array, options: { renderSpecial?: boolean } = {}): string {
    const renderSpecial = readOptions(options, (read) => read.boolean("renderSpecial", false));
    return this.#open().detokenize(tokenIds(tokens, "tokens", this.info.vocabSize), renderSpecial);
  }

  /**
   * The vocabulary's entry for a token id.
   *
   * @throws TypeError, RangeError for a value that is no token id of this model; {@link CllmError} `CLLM_DISPOSED`
   */
  token(id: number): TokenInfo {
    const checked = tokenIds([id], "token", this.info.vocabSize)[0] as number;
    const { text, attributes, endOfGeneration } = this.#open().token(checked);
    return { text, attributes: ATTRIBUTES.filter((_, bit) => attributes & (1 << bit)), endOfGeneration };
  }

  /**
   * Renders messages with the model's own chat template, or with `template`.
   *
   * @param options.addGenerationPrompt end with the beginning of the assistant's turn; default true.
   * @param options.template a Jinja template to use instead of the model's own.
   * @throws {@link CllmError} `CLLM_CHAT_TEMPLATE` when there is none, it is malformed, or it refuses the messages.
   * @example
   * const text = model.applyChatTemplate([{ role: "user", content: "Hello" }]);
   */
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options: { addGenerationPrompt?: boolean; template?: string } = {},
  ): string {
    const { addGenerationPrompt, template } = readOptions(options, (read) => ({
      addGenerationPrompt: read.boolean("addGenerationPrompt", true),
      template: read.nonEmptyString("template", this.chatTemplate),
    }));
    chatMessages(messages);
    const native = this.#open();
    if (template === null) {
      throw new CllmError("CLLM_CHAT_TEMPLATE", `${this.path} has no chat template: pass one in options.template`);
    }
    const { bos, eos } = this.specialTokens;
    const text = (id: number | null) => (id === null ? "" : native.detokenize(Int32Array.of(id), true));
    return renderChat(template, messages, addGenerationPrompt, { bos: text(bos), eos: text(eos) });
  }

  /**
   * Token ids of a prompt as generate() makes them: a text gets BOS where the vocabulary says so; chat messages are
   * rendered with the model's template, which may bring a BOS of its own; token ids are copied. The answer goes on behind the
   * last token, so no EOS is added, not even where the vocabulary puts one behind every text; a template's own EOS
   * stays.
   *
   * @throws TypeError, RangeError for an input of another kind and for one without a token; {@link CllmError}
   * `CLLM_CHAT_TEMPLATE`, `CLLM_DISPOSED`
   * @example
   * const { length } = model.promptTokens([{ role: "user", content: "Hello" }]);
   */
  promptTokens(input: Input): Int32Array {
    let tokens: Int32Array;
    let expected = "a prompt of at least one token";
    if (typeof input === "string") {
      tokens = this.#tokenizeOpenEnd(input, false);
    } else if (Array.isArray(input) && isChat(input)) {
      const text = this.applyChatTemplate(input);
      const { bos } = this.specialTokens;
      const startsWithBos = bos !== null && text.startsWith(this.detokenize([bos], { renderSpecial: true }));
      tokens = startsWithBos ? this.#open().tokenize(text, false, true) : this.#tokenizeOpenEnd(text, true);
      expected = "messages that render to at least one token";
    } else if (Array.isArray(input) || types.isInt32Array(input)) {
      tokens = tokenIds(input, "input", this.info.vocabSize);
    } else {
      throw typeError("a string, an array of token ids or an array of chat messages", "input", input);
    }
    if (tokens.length === 0) throw rangeError(expected, "input", input);
    return tokens;
  }

  /** Token ids of a text, with BOS where the vocabulary says so, and without the EOS that some vocabularies add. */
  #tokenizeOpenEnd(text: string, parseSpecial: boolean): Int32Array {
    const native = this.#open();
    const tokens = native.tokenize(text, true, parseSpecial);
    const { addEos, eos } = this.specialTokens;
    // Some kinds of tokenizers ignore the flag; the empty text shows what they really add around a text.
    return addEos && native.tokenize("", true, false).at(-1) === eos ? tokens.slice(0, -1) : tokens;
  }

  /**
   * Creates a decoder: a context of `lanes` sequences, and a thread.
   *
   * @throws {@link CllmError} `CLLM_UNSUPPORTED_MODEL` for models that cannot be decoded (encoders), or not in blocks
   * of that size (their recurrent state cannot be rolled back so far); `CLLM_OUT_OF_MEMORY`.
   */
  async createDecoder(options: DecoderOptions = {}): Promise<Decoder> {
    const native = this.#open();
    const { settings } = this.planDecoder(options);
    checkContext(settings.native, this.#nativeInfo, this.#gpuLayers);
    const creating = this.#create(native, settings);
    this.#creating.add(creating);
    try {
      return await creating;
    } finally {
      this.#creating.delete(creating);
    }
  }

  /** @internal What createDecoder() would make of the options, and the memory beside the weights, as it is estimated. */
  planDecoder(options: DecoderOptions = {}): { settings: DecoderSettings; needs: ContextNeeds } {
    const settings = decoderSettings(options, this.info);
    if (settings.autoBlockSize) limitSnapshots(settings.native, this.#nativeInfo, this.#gpuLayers);
    return { settings, needs: contextNeeds(settings.native, this.#nativeInfo) };
  }

  async #create(native: NativeModel, settings: DecoderSettings): Promise<Decoder> {
    const commands = new Commands();
    const decoder = await Decoder.create(this, native, settings, commands);
    if (this.#disposing !== null) {
      await decoder.dispose();
      this.#open();
    }
    const reference = new WeakRef(commands);
    this.#decoders.add(reference);
    this.#collected.register(commands, reference);
    return decoder;
  }

  /** Disposes its decoders, then frees the weights. Idempotent: all calls get the same promise. */
  dispose(): Promise<void> {
    this.#disposing ??= (async () => {
      await Promise.all([
        ...[...this.#decoders].map((reference) => reference.deref()?.dispose()),
        ...[...this.#creating].map((creating) => creating.catch(() => {})),
      ]);
      this.#native?.dispose();
      this.#native = null;
    })();
    return this.#disposing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #open(): NativeModel {
    if (this.#native === null || this.#disposing !== null) {
      throw new CllmError("CLLM_DISPOSED", `The model ${this.path} is disposed`);
    }
    return this.#native;
  }
}
