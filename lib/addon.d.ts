/**
 * The boundary between TypeScript and the addon: everything the `.node` file exports, and nothing else.
 * `test/05.boundary` compares this file with what a built addon really exports.
 *
 * The addon re-checks only what would corrupt memory; every option is validated once, in `lib/options.ts`.
 * Token ids cross as Int32Array, always copied, never shared.
 */

import type { CllmError } from "./errors.js";

export type CllmErrorConstructor = new (code: string, message: string) => CllmError;

export interface Addon {
  /** Gives the addon the class that its run-time failures are instances of. Called once per environment. */
  setErrorClass(errorClass: CllmErrorConstructor): void;
  buildInfo(): BuildInfo;
  /** The limits in native/base/limits.h; lib/limits.ts must have the same. */
  limits(): NativeLimits;
  /**
   * The devices that ggml can compute on. With `prove` it computes a product on each GPU first, and throws
   * where one is wrong.
   */
  devices(prove: boolean): NativeDevice[];
  /** Starts loading on a thread of its own. `onProgress` receives 0..1, throttled to whole percents. */
  loadModel(path: string, options: LoadOptions, onProgress: ((fraction: number) => void) | null): Task<NativeModel>;
  /** Converts a JSON schema, given as text, to a grammar in GBNF. Throws CLLM_INVALID_GRAMMAR. */
  jsonSchemaGrammar(schema: string): string;
  /** Writes a model with adapters merged in, on a thread of its own, directly to `output`. */
  mergeAdapters(
    base: string,
    output: string,
    options: MergeOptions,
    onProgress: ((fraction: number) => void) | null,
  ): Task<void>;
  /** Runs llama.cpp's quantiser on a thread of its own. It writes `output` directly, without a temporary file. */
  quantize(
    input: string,
    output: string,
    options: QuantizeOptions,
    onProgress: ((fraction: number) => void) | null,
  ): Task<void>;
  /**
   * Reads the base's header and plans the training, without taking its memory yet. `data.tokens` holds prompts and
   * answers one after the other, `data.lengths` their lengths: [prompt, answer, prompt, answer, ...].
   */
  createTrainer(base: string, options: TrainOptions, data: TrainData): Task<NativeTrainer>;
  /**
   * Returns the choices of `rows` rows of logits, synchronously; row r starts at r * stride and is for position + r. See
   * kernels.ts.
   */
  chooseTokens(
    logits: Float32Array,
    vocab: number,
    stride: number,
    rows: number,
    choosing: Choosing,
    position: number,
  ): Int32Array;
  verifyBlocks(input: VerifyBlocks): Verdicts;
  Model: new () => NativeModel; // not constructible from JS: throws
  Decoder: new () => NativeDecoder; // not constructible from JS: throws
  Trainer: new () => NativeTrainer; // not constructible from JS: throws
}

/** native/train/trainer.h explains these options; lib/distill/options.ts has the ranges. */
export interface TrainOptions {
  bf16: boolean; // true: matrix products in BF16 with F32 master weights; false: in F32
  trainEmbeddings: boolean;
  loraRank: number; // 0: full fine-tuning
  rowTokens: number;
  rowsPerPass: number;
  passesPerStep: number;
  labels: number; // labels per pass, at most
  blockSize: number;
  arEpochs: number;
  epochs: number;
  cleanShare: number;
  pool: number;
  rowSteps: number;
  arWeight: number;
  consistencyWeight: number;
  softShare: number;
  decay: number;
  learningRate: number;
  arLearningRate: number;
  weightDecay: number;
  clip: number;
  warmup: number;
  seed: number;
  threads: number; // CPU threads
  gpu: boolean; // true: train on the first GPU of the CUDA binary; false: on the CPU
  fingerprint: string;
}

export interface TrainData {
  tokens: Int32Array;
  lengths: Int32Array;
}

export interface TrainStep {
  step: number; // number of steps done, over both phases
  phase: "ar" | "consistency";
  answerLoss: number; // mean cross entropy of clean answer tokens
  blockLoss: number; // weighted mean cross entropy of block tokens against the answer; 0 in the AR phase
  tokensPerIteration: number; // over the blocks in training; 0 in the AR phase
  tokens: number; // tokens that went through the model, padding not counted
  gradientNorm: number;
  learningRate: number;
}

/** Serves one call at a time; a second call throws. */
export interface NativeTrainer {
  info(): { bytes: number; steps: number; arSteps: number; step: number; trainedParameters: number };
  /** Takes the memory and reads the base, and the checkpoint where one is named. */
  load(checkpoint: string | null): Task<void>;
  /**
   * Does steps until `milliseconds` have passed: at least one step, or none where all are done. cancel() ends a pass in
   * the middle.
   */
  run(milliseconds: number): Task<TrainStep[]>;
  saveCheckpoint(path: string): Task<void>;
  /**
   * Writes the model as it is, adapters merged, matrices in BF16 or F32, or the adapters alone, with `notes` added to the
   * metadata.
   */
  write(path: string, format: "BF16" | "F32" | "adapters", notes: Record<string, string>): Task<void>;
  /** Frees the memory. A call in progress rejects with CLLM_ABORTED first. Idempotent. */
  dispose(): void;
}

/** B lanes, C candidates, n tokens a block; flat arrays. */
export interface VerifyBlocks {
  lanes: number; // B
  candidates: number; // C
  block: number; // n
  tokens: Int32Array; // [B, C, n]
  choices: Int32Array; // [B, C, n]
  budgets: Int32Array; // [B]
  stood: Uint8Array; // [B, n]
  endOfGeneration: Uint8Array; // [vocab], longer than the largest choice
}

/** The verdicts of verify, one element per lane; all are 0 for a lane without budget. */
export interface Verdicts {
  /** Candidate with the most accepted drafts. */
  winner: Int32Array;
  /** Accepted draft tokens of the winner, 0 to n - 1. */
  accepted: Int32Array;
  /** How many of the winner's choices are emitted, 1 to accepted + 1. */
  emitted: Int32Array;
  /** How many of the emitted drafts were stationary (CLLM, section 3.3). */
  stationary: Int32Array;
  /** 1 where the last emitted token ends the lane. */
  ended: Int32Array;
}

export interface Task<T> {
  readonly promise: Promise<T>;
  /** Asks the thread to stop; the promise then rejects with code CLLM_ABORTED. Idempotent. */
  cancel(): void;
}

export interface BuildInfo {
  /** "native" | "x86-64-v3" | "x86-64-avx512" | "generic" (CMake's CLLM_CPU_LEVEL). */
  cpuLevel: string;
  backend: "cpu" | "cuda";
  llamaVersion: string; // "0.5.0"
  llamaCommit: string;
  compiler: string;
  /** ggml's own list of what it was compiled with, e.g. ["AVX2", "FMA", "AVX512", "LLAMAFILE", "REPACK"]. */
  features: string[];
  /**
   * Products of our own that this process uses: a set for one instruction set (`avx512`, `avx-vnni`, `avx2`, `neon-i8mm`,
   * `neon-dotprod`), chosen for the CPU whatever the binary's level, and `avx512-bf16` or `amx-bf16` for BF16 weights.
   * Empty where the CPU has none of them.
   */
  products: string[];
}

export interface NativeLimits {
  maxBlockSize: number;
  maxLanes: number;
  maxCandidates: number;
  maxBurst: number;
  maxPartTokens: number;
  maxPassTokens: number;
  maxWindowPassTokens: number;
  maxLogprobs: number;
}

export interface NativeDevice {
  /** ggml's name: `CPU`, `CUDA0`, ... */
  name: string;
  /** The product's name. */
  description: string;
  kind: "cpu" | "gpu" | "integrated" | "accelerator" | "other"; // integrated: a GPU on the CPU's memory
  /** Bytes. */
  freeMemory: number;
  totalMemory: number;
}

export interface LoadOptions {
  gpuLayers: number; // -1 = all
  mmap: boolean;
  packWeights: boolean;
  adapters: Adapter[];
  threads: number; // that merge adapters
}

/** A LoRA adapter; the product of its matrices counts `scale` times. */
export interface Adapter {
  path: string;
  scale: number;
}

export interface MergeOptions {
  adapters: Adapter[];
  threads: number;
}

export interface QuantizeOptions {
  /** llama_ftype name in upper case: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K_M, ... Unknown: CLLM_QUANTIZE_FAILED. */
  type: string;
  threads: number;
  /** Quantise tensors that are quantised already (a Q4_1 file to Q4_0). */
  allowRequantize: boolean;
}

export interface NativeModel {
  info(): NativeModelInfo;
  /** All GGUF metadata as llama.cpp renders it (arrays shortened by llama.cpp). */
  metadata(): Record<string, string>;
  tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Int32Array;
  detokenize(tokens: Int32Array, renderSpecial: boolean): string;
  /** Returns a token's text as the vocabulary stores it, and its attributes (bit set of llama_token_attr). */
  token(id: number): { text: string; attributes: number; endOfGeneration: boolean };
  /** Returns the chat template of this name, for null the default template; null when the file has none. */
  chatTemplate(name: string | null): string | null;
  createDecoder(options: DecoderOptions, onEvents: (events: DecoderEvent[]) => void): Promise<NativeDecoder>;
  /** Drops this reference; the weights are freed when the last decoder is gone too. Idempotent. */
  dispose(): void;
}

export interface NativeModelInfo {
  description: string; // "llama 135M Q4_1"
  architecture: string; // "llama"
  parameterCount: number;
  fileSize: number; // bytes of all tensors
  packedBytes: number; // weights, or copies of weights, that were packed for the CPU's products
  vocabSize: number;
  vocabType: string; // "bpe" | "spm" | "wpm" | "ugm" | "rwkv" | "plamo2" | "none" ...
  trainContextSize: number;
  embeddingSize: number;
  layerCount: number;
  headCount: number;
  headCountKv: number;
  maxRollback: number | null; // tokens; null: any number
  slidingWindow: number; // tokens; 0: no layer has a window
  stateBytes: number; // of one lane's recurrent state
  /** Bytes per token and lane with F16 rows, of layers that see the whole context and of layers with a window. */
  kvBytesPerToken: number;
  windowedKvBytesPerToken: number;
  bos: number; // this and the next five are -1 where the vocabulary has no such token
  eos: number;
  eot: number;
  nl: number;
  pad: number;
  sep: number;
  addBos: boolean;
  addEos: boolean;
}

export interface DecoderOptions {
  contextSize: number; // tokens per lane
  lanes: number;
  blockSize: number; // tokens of the largest block; a request may use smaller ones
  candidates: number; // blocks verified per lane at once, 1..8, on the resident runner
  threads: number;
  prefillChunk: number; // tokens per prefill pass, at most; 0: what suits model and CPU
  flashAttention: boolean | null; // null = llama.cpp decides
  kvType: string; // "f16" | "f32" | "bf16" | "q8_0" | "q4_0" ...
  swaFull: boolean; // layers with a sliding window keep the rows of the whole context
  runner: "auto" | "resident" | "host";
  burst: number; // iterations that the resident runner does in one go, at most
  consistencyModel: boolean; // the model is a consistency LLM, whose choices are good drafts
}

/**
 * Where the tokens of a draft come from:
 * - `choices`: the model's own choices of the last iteration for later positions, then the tokens that followed the
 *   last tokens where they stood before, in prompt or answer (prompt lookup);
 * - `random`: the same choices, then random tokens of the prompt (CLLM, arXiv 2403.00835);
 * - `lookup`: no choices, but the tokens that followed the last token where it stood before, at the place that agrees
 *   with most of the last three tokens;
 * - `auto`: `choices` or `lookup`, whichever would have had more tokens accepted lately.
 *
 * native/kernels/draft.h has the same modes.
 */
export type DraftSource = "auto" | "random" | "choices" | "lookup";

/** How the resident runner launched its last burst on a GPU. CLLM_CUDA_GRAPHS chooses (docs/gpu.md). */
export interface Launches {
  /** What one launch starts: a kernel, a recorded iteration, or a whole burst, which ends by itself. */
  each: "kernel" | "iteration" | "burst";
  /** Kernels, copies and fills of an iteration, which are counted when it is recorded. */
  kernels: number | null;
  /** Why an iteration was last refused to be recorded, or null. */
  reason: string | null;
}

export interface DecoderInfo {
  runner: "host" | "resident";
  runnerReason: string;
  launches: Launches | null; // null where the resident runner does not run on a GPU
  burst: number;
  contextSize: number;
  lanes: number;
  blockSize: number;
  candidates: number;
  threads: number;
  prefillChunk: number;
  flashAttention: boolean | null; // the option, not what llama.cpp decided
  kvType: string;
  swaFull: boolean;
  kvBytes: number; // of all KV caches in memory
  stateBytes: number; // of all lanes' recurrent states with their snapshots; 0 where all layers have attention
  maxRollback: number | null; // tokens that a lane can go back without being read again; null: any number
}

/** Commands are answered by events with the same id. Ids are positive integers chosen by the caller, used once. */
export interface NativeDecoder {
  info(): DecoderInfo;
  /** The latest choice for requests with a blockSize of 0; null before the first iteration of such a request. */
  chosen(): { blockSize: number; candidates: number } | null;
  /** Queues a generation on the request's `sequence` (an id from openSequence), or on any free lane (0). */
  generate(id: number, request: GenerateRequest): void;
  /** Stops a queued or running generation at the next iteration; answered by `done` with finishReason "abort". */
  abort(id: number): void;
  /** Takes a lane; answered by `sequence` with the sequence's id, or by `error` CLLM_NO_FREE_LANE. */
  openSequence(id: number): void;
  closeSequence(id: number, sequence: number): void; // answered by `ok`
  /** Makes the sequence hold exactly `tokens`, keeping the KV of the longest common prefix. Answered by `prefilled`. */
  prefill(id: number, sequence: number, tokens: Int32Array): void;
  /** One Jacobi iteration. Answered by `iteration`. */
  iterate(id: number, sequence: number, options: IterateOptions): void;
  /** Keeps the first `position` tokens. Answered by `ok`. */
  rollback(id: number, sequence: number, position: number): void;
  /** Copies a sequence, its KV and its block into a free lane. Answered by `sequence`. */
  fork(id: number, sequence: number): void;
  /** Stops the thread within one graph node, answers pending commands with CLLM_DISPOSED, and frees everything. */
  dispose(): Promise<void>;
}

/** How tokens are chosen: as Sampling of native/kernels/sampling.h says, after the biases are added to the logits. */
export interface Choosing {
  temperature: number; // 0: greedy; else 1e-3 to 1e3
  topK: number; // 0: off
  topP: number; // 1: off
  minP: number; // 0: off
  seed: number; // uint32
  biasTokens: Int32Array | null;
  biases: Float32Array | null; // one per bias token; -Infinity bans
}

export interface GenerateRequest {
  sequence: number; // 0 = any free lane
  tokens: Int32Array; // the whole prompt, at least one token
  maxTokens: number; // >= 1; the engine lowers it to what the context holds
  blockSize: number; // 1..DecoderOptions.blockSize; 0: the engine chooses, iteration by iteration
  seed: number; // uint32, of the random first draft
  choosing: Choosing;
  draftSource: DraftSource;
  stop: string[];
  /** Send `chunk` events while decoding. Otherwise only `done` is sent, which costs the event loop nothing. */
  stream: boolean;
  /** Render special tokens as text. */
  renderSpecial: boolean;
  rules: TokenRules | null;
  logprobs: number; // number of alternatives per token; -1: no logprobs at all
}

/** These are the RuleOptions of native/decode/token_rules.h. */
export interface TokenRules {
  grammar: string; // "": none
  repeatPenalty: number;
  frequencyPenalty: number;
  presencePenalty: number;
  penaltyTokens: number;
}

/** Natural logarithms of probabilities, from the logits that a token was chosen from, before temperature. */
export interface NativeLogprobs {
  logprob: number;
  top: { token: number; logprob: number }[];
}

export interface IterateOptions {
  blockSize: number;
  seed: number;
  choosing: Choosing;
  draftSource: DraftSource;
  /** blockSize - 1 token ids that replace the lane's draft; null keeps the draft of the last iteration. */
  draft: Int32Array | null;
  /** Return the logits, [blockSize, vocabSize] row-major float32. */
  logits: boolean;
}

export interface NativeStats {
  promptTokens: number;
  cachedTokens: number; // prompt tokens whose KV rows were there already
  emittedTokens: number;
  iterations: number;
  fastForwardedTokens: number;
  stationaryTokens: number;
  blockSizes: Record<number, number>; // number of iterations by block size
  candidates: Record<number, number>; // number of iterations by number of candidates
  prefillMilliseconds: number; // passes over the prompt
  decodeMilliseconds: number; // Jacobi iterations of this lane, with the whole time of shared passes
  forwardMilliseconds: number; // the part of decodeMilliseconds spent inside llama.cpp, or on giving a GPU its work
}

export type DecoderEvent =
  | { id: number; type: "chunk"; text: string; tokens: Int32Array }
  | {
      id: number;
      type: "done";
      text: string;
      tokens: Int32Array;
      finishReason: FinishReason;
      logprobs: NativeLogprobs[]; // one per token, or empty
      stats: NativeStats;
    }
  | { id: number; type: "sequence"; sequence: number; tokens: Int32Array }
  | { id: number; type: "prefilled"; reused: number; prefilled: number }
  | { id: number; type: "iteration"; iteration: NativeIteration }
  | { id: number; type: "ok" }
  | { id: number; type: "error"; error: CllmError };

/** `done.text` and `done.tokens` hold the whole answer, also when it was streamed. */
export type FinishReason = "eog" | "stop" | "length" | "abort";

export interface NativeIteration {
  position: number; // position of block[0], before the iteration
  block: Int32Array; // [n] block[0] confirmed, block[1..] the draft
  choices: Int32Array; // [n] the model's choice after each token of the block
  accepted: number; // m: leading draft tokens that equal the choices before them
  tokens: Int32Array; // [m + 1] emitted: choices[0..m] (cut where the context ends)
  stationary: number;
  logits: Float32Array | null; // [n * vocabSize]
  forwardMilliseconds: number;
}
