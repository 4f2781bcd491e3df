import { binaryInfo } from "../binary/binding.js";
import { DISTILL_DEFAULTS as DEFAULTS, MAX_BLOCK_SIZE, MAX_ROW_TOKENS, MAX_SEED, MAX_THREADS } from "../limits.js";
import { defaultThreads } from "../machine/threads.js";
import { nonEmptyString, type OptionsReader, rangeError, readOptions } from "../options.js";

/** The state of a training. */
export interface DistillProgress {
  /**
   * `tokenise`: prompts and the data's answers become tokens; `answers`: the model answers the prompts; `ar`,
   * `consistency`: training; `evaluate`: the model answers the held-back prompts; `write`: the file is written.
   */
  stage: "tokenise" | "answers" | "ar" | "consistency" | "evaluate" | "write";
  /** Prompts or answers that are done, or optimiser steps of both training stages together. */
  done: number;
  /** Number of prompts, answers or steps in all. */
  total: number;
  /** Mean cross entropy of answer tokens, or null before training. */
  answerLoss: number | null;
  /** Weighted mean cross entropy of draft block tokens against the answer, or null outside `consistency`. */
  blockLoss: number | null;
  /** Tokens per iteration on the held-back prompts, with the model of the last checkpoint, or null before that. */
  tokensPerIteration: number | null;
  /** Tokens trained on per second, padding not counted; 0 before training. */
  tokensPerSecond: number;
  /** Seconds that the stage will still take, or null while unknown. */
  secondsLeft: number | null;
}

/** Options of distill(). */
export interface DistillOptions {
  /** The file to write. It appears when it is complete and prompts have been decoded with it. */
  out: string;
  /** Train on the base model's `own` greedy answers, or on the answers `given` in the data. Default `own`. */
  answers?: "own" | "given" | undefined;
  /** Longest own answer in tokens. Default: what a training row holds. */
  maxTokens?: number | undefined;
  /** Tokens of a draft block n, 2 to 128. Default 16. */
  blockSize?: number | undefined;
  /** Passes over the data with the AR loss alone, before consistency training. Default 0. */
  arEpochs?: number | undefined;
  /** Passes over the data in consistency training, where each row stays for `rowSteps` steps. Default 1. */
  epochs?: number | undefined;
  /** Tokens of a training row, a multiple of 32. Default 512. */
  rowTokens?: number | undefined;
  /** Rows per optimiser step. Default 4. */
  batch?: number | undefined;
  /** Share of a row for prompts and answers; the rest is for draft blocks. Default 0.5. */
  cleanShare?: number | undefined;
  /** Rows in training at a time, so that blocks of different ages are mixed. Default 48. */
  pool?: number | undefined;
  /** Steps that a row stays in the pool while its blocks advance as in decoding. Default 6. */
  rowSteps?: number | undefined;
  /** Weight of the AR loss on the answers. Default 1. */
  arWeight?: number | undefined;
  /** Weight of the consistency loss. Default 1. */
  consistencyWeight?: number | undefined;
  /**
   * Share of the consistency loss against the distribution at the clean positions, 0 to 1; the rest is against the
   * answer's tokens. Default 0.5.
   */
  softShare?: number | undefined;
  /** Weight of a block position over the weight of the one before, 0 to 1. Default 0.85. */
  decay?: number | undefined;
  /** Peak learning rate of the consistency stage, after a warm-up and before a cosine to 0. Default 2.5e-4. */
  learningRate?: number | undefined;
  /** Peak learning rate of the AR stage. Default 3e-4. */
  arLearningRate?: number | undefined;
  /** AdamW's decay of matrices. Default 0.01. */
  weightDecay?: number | undefined;
  /** Largest norm of the gradient; 0 is no limit. Default 1. */
  clip?: number | undefined;
  /** Rank of LoRA adapters, merged at the end; 0 trains all weights. Default 0. */
  lora?: number | undefined;
  /**
   * File for the adapters alone, which {@link Model.load} and {@link merge} take; with `lora` above 0. They are small, and
   * fit the base they were trained on in any format. Default: none.
   */
  adapter?: string | undefined;
  /** Train token embeddings and output matrix too. Default false: it needs memory and hardly helps a trained model. */
  trainEmbeddings?: boolean | undefined;
  /**
   * Matrix products in `bf16` (F32 master weights) or `f32`, which a GPU rounds to TF32. Default: bf16 where the CPU has
   * AVX512-BF16; with the CUDA binary f32, which is as fast.
   */
  precision?: "bf16" | "f32" | undefined;
  /** Format of the file: F32, BF16, Q8_0 or Q4_0. Default BF16. */
  type?: "F32" | "BF16" | "Q8_0" | "Q4_0" | undefined;
  /** Prompts to measure with, which are not trained on. Default 16. */
  heldBack?: number | undefined;
  /** Seed of order, drafts and adapters. Default 0. */
  seed?: number | undefined;
  /** Compute threads, 1 to 512. Default: physical cores. */
  threads?: number | undefined;
  /** Minutes between checkpoints. Default 5. */
  checkpointMinutes?: number | undefined;
  /** Go on from the checkpoint beside `out`, which must come from the same base, data and options. Default false. */
  resume?: boolean | undefined;
  /** Text for the file's metadata, e.g. the licence of the data. */
  note?: string | undefined;
  onProgress?: ((progress: DistillProgress) => void) | undefined;
  /** Stops after the step in progress, with a checkpoint. */
  signal?: AbortSignal | undefined;
}

const TYPES = ["F32", "BF16", "Q8_0", "Q4_0"] as const;

/** Every option with its value. */
export type DistillSettings = ReturnType<typeof distillSettings>;

/** @throws TypeError, RangeError */
export function distillSettings(options: DistillOptions) {
  return readOptions(options, (read) => {
    const trained = readTrained(read);
    return {
      out: nonEmptyString(read.value("out"), "out"),
      answers: read.oneOf("answers", ["own", "given"] as const, DEFAULTS.answers),
      maxTokens: read.integer("maxTokens", 1, MAX_ROW_TOKENS, trained.rowTokens),
      trained,
      type: read.oneOf("type", TYPES, DEFAULTS.type),
      heldBack: read.integer("heldBack", 1, 2 ** 20, DEFAULTS.heldBack),
      threads: read.integer("threads", 1, MAX_THREADS, defaultThreads()),
      checkpointMinutes: read.number("checkpointMinutes", 0.01, 1e6, DEFAULTS.checkpointMinutes),
      resume: read.boolean("resume", false),
      adapter: readAdapter(read, trained.lora),
      note: read.nonEmptyString("note", null),
      onProgress: read.callback<(progress: DistillProgress) => void>("onProgress"),
      signal: read.abortSignal("signal") ?? undefined,
    };
  });
}

function readAdapter(read: OptionsReader, lora: number): string | null {
  const file = read.nonEmptyString("adapter", null);
  if (file !== null && lora === 0) throw rangeError("a rank above 0 where an adapter is to be written", "lora", lora);
  return file;
}

/** Reads the options that decide the training. Their JSON is part of a run's fingerprint, so the order of keys counts. */
function readTrained(read: OptionsReader) {
  const blockSize = read.integer("blockSize", 2, MAX_BLOCK_SIZE, DEFAULTS.blockSize);
  const rowTokens = read.integer("rowTokens", 64, MAX_ROW_TOKENS, DEFAULTS.rowTokens);
  if (rowTokens % 32 !== 0) throw rangeError("a multiple of 32", "rowTokens", rowTokens);
  if (rowTokens < 4 * blockSize) throw rangeError(`at least 4 blocks of ${blockSize}`, "rowTokens", rowTokens);
  const arEpochs = read.number("arEpochs", 0, 1e6, DEFAULTS.arEpochs);
  const epochs = read.number("epochs", 0, 1e6, DEFAULTS.epochs);
  if (arEpochs === 0 && epochs === 0) throw rangeError("epochs or arEpochs above 0", "epochs", epochs);
  const { backend, features } = binaryInfo();
  const fastPrecision = backend === "cpu" && features.includes("AVX512_BF16") ? "bf16" : "f32";
  return {
    blockSize,
    rowTokens,
    arEpochs,
    epochs,
    batch: read.integer("batch", 1, 4096, DEFAULTS.batch),
    cleanShare: read.number("cleanShare", 0.1, 0.9, DEFAULTS.cleanShare),
    pool: read.integer("pool", 1, 2 ** 20, DEFAULTS.pool),
    rowSteps: read.integer("rowSteps", 1, 2 ** 20, DEFAULTS.rowSteps),
    arWeight: read.number("arWeight", 0, 1e3, DEFAULTS.arWeight),
    consistencyWeight: read.number("consistencyWeight", 0, 1e3, DEFAULTS.consistencyWeight),
    softShare: read.number("softShare", 0, 1, DEFAULTS.softShare),
    decay: read.number("decay", 0, 1, DEFAULTS.decay),
    learningRate: read.number("learningRate", 0, 1, DEFAULTS.learningRate),
    arLearningRate: read.number("arLearningRate", 0, 1, DEFAULTS.arLearningRate),
    weightDecay: read.number("weightDecay", 0, 10, DEFAULTS.weightDecay),
    clip: read.number("clip", 0, 1e9, DEFAULTS.clip),
    lora: read.integer("lora", 0, 4096, DEFAULTS.lora),
    trainEmbeddings: read.boolean("trainEmbeddings", false),
    precision: read.oneOf("precision", ["bf16", "f32"] as const, fastPrecision),
    seed: read.integer("seed", 0, MAX_SEED, DEFAULTS.seed),
  };
}
