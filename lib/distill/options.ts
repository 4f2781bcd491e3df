import { binaryInfo } from "../binary/binding.js";
import { defaultThreads } from "../machine/threads.js";
import * as check from "../options.js";
import { SEED_MAX } from "../request/sampling.js";

/** What distill() is doing. */
export interface DistillProgress {
  /**
   * `tokenise`: prompts and given answers; `answers`: the model answers the prompts; `ar`, `consistency`: training;
   * `evaluate`: held-back prompts; `write`.
   */
  stage: "tokenise" | "answers" | "ar" | "consistency" | "evaluate" | "write";
  /** Of `total`: prompts, answers, or optimiser steps of both training stages together. */
  done: number;
  total: number;
  /** Mean cross entropy of answer tokens, or null before training. */
  answerLoss: number | null;
  /** Weighted mean cross entropy of draft block tokens against the answer, or null outside `consistency`. */
  blockLoss: number | null;
  /** Tokens per iteration on the held-back prompts, decoded with the model as it was at the last checkpoint, or null. */
  tokensPerIteration: number | null;
  /** Training tokens per second, padding not counted; 0 before training. */
  tokensPerSecond: number;
  /** Seconds that the stage will still take, or null while unknown. */
  secondsLeft: number | null;
}

/** Options of distill(). */
export interface DistillOptions {
  /** The file to write. It appears when it is complete and has been decoded with. */
  out: string;
  /** `own`: the base model's greedy answers; `given`: those of the data. Default `own`. */
  answers?: "own" | "given" | undefined;
  /** Longest own answer, in tokens. Default: what a training row holds. */
  maxTokens?: number | undefined;
  /** Tokens of a draft block n, 2 to 128. Default 16. */
  blockSize?: number | undefined;
  /** Passes over the data with the AR loss alone, before. Default 0. */
  arEpochs?: number | undefined;
  /** Passes over the data of consistency training; each row then stays for `rowSteps` steps. Default 1. */
  epochs?: number | undefined;
  /** Tokens of a training row, a multiple of 32. Default 512. */
  rowTokens?: number | undefined;
  /** Rows per optimiser step. Default 4. */
  batch?: number | undefined;
  /** Share of a row for prompts and answers, the rest is for draft blocks. Default 0.5. */
  cleanShare?: number | undefined;
  /** Rows in training at a time; blocks of different ages are mixed so. Default 48. */
  pool?: number | undefined;
  /** Steps that a row stays in the pool while its blocks advance as in decoding. Default 6. */
  rowSteps?: number | undefined;
  /** Weight of the AR loss on the answers. Default 1. */
  arWeight?: number | undefined;
  /** Weight of the consistency loss. Default 1. */
  consistencyWeight?: number | undefined;
  /** Share of the consistency loss that is against the clean positions' distribution, 0 to 1; the rest is against the
   * answer's token. Default 0.5. */
  softShare?: number | undefined;
  /** Weight of a block position over that of the one before, 0 to 1. Default 0.85. */
  decay?: number | undefined;
  /** Peak of the consistency stage; warm-up, then cosine to 0. Default 2.5e-4. */
  learningRate?: number | undefined;
  /** Peak of the AR stage. Default 3e-4. */
  arLearningRate?: number | undefined;
  /** AdamW's decay of matrices. Default 0.01. */
  weightDecay?: number | undefined;
  /** Largest norm of the gradient; 0 = no limit. Default 1. */
  clip?: number | undefined;
  /** Rank of LoRA adapters, merged at the end; 0 = all weights are trained. Default 0. */
  lora?: number | undefined;
  /** Train token embeddings and output matrix too. Default false: it needs memory and hardly helps a trained model. */
  trainEmbeddings?: boolean | undefined;
  /**
   * Matrix products in `bf16` (F32 master weights) or `f32`, which a GPU rounds to TF32. Default: bf16 where the CPU has
   * AVX512-BF16; with the CUDA binary f32, which is as fast.
   */
  precision?: "bf16" | "f32" | undefined;
  /** Format of the file: F32, BF16, Q8_0 or Q4_0. Default BF16. */
  type?: "F32" | "BF16" | "Q8_0" | "Q4_0" | undefined;
  /** Prompts that are not trained on, to measure with. Default 16. */
  heldBack?: number | undefined;
  /** Seed of order, drafts and adapters. Default 0. */
  seed?: number | undefined;
  /** Compute threads. Default: physical cores. */
  threads?: number | undefined;
  /** Minutes between checkpoints. Default 5. */
  checkpointMinutes?: number | undefined;
  /** Go on from the checkpoint beside `out`, which must be of the same base, data and options. Default false. */
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
  const given = check.optionsObject(options, [
    ...["out", "answers", "maxTokens", "blockSize", "arEpochs", "epochs", "rowTokens", "batch", "cleanShare", "pool"],
    ...["rowSteps", "arWeight", "consistencyWeight", "softShare", "decay", "learningRate", "arLearningRate"],
    ...["weightDecay", "clip", "lora", "trainEmbeddings", "precision", "type", "heldBack", "seed", "threads"],
    ...["checkpointMinutes", "resume", "note", "onProgress", "signal"],
  ]);
  const number = (name: string, lowest: number, highest: number, fallback: number) =>
    check.number(given[name], name, lowest, highest, fallback);
  const integer = (name: string, lowest: number, highest: number, fallback: number) =>
    check.integer(given[name], name, lowest, highest, fallback);
  const blockSize = integer("blockSize", 2, 128, 16);
  const rowTokens = integer("rowTokens", 64, 1 << 16, 512);
  if (rowTokens % 32 !== 0) throw check.rangeError("a multiple of 32", "rowTokens", rowTokens);
  if (rowTokens < 4 * blockSize) throw check.rangeError(`at least 4 blocks of ${blockSize}`, "rowTokens", rowTokens);
  const arEpochs = number("arEpochs", 0, 1e6, 0);
  const epochs = number("epochs", 0, 1e6, 1);
  if (arEpochs === 0 && epochs === 0) throw check.rangeError("epochs or arEpochs above 0", "epochs", epochs);
  const { backend, features } = binaryInfo();
  return {
    out: check.nonEmptyString(given.out, "out"),
    answers: check.oneOf(given.answers, "answers", ["own", "given"] as const, "own"),
    maxTokens: integer("maxTokens", 1, 1 << 16, rowTokens),
    trained: {
      blockSize,
      rowTokens,
      arEpochs,
      epochs,
      batch: integer("batch", 1, 4096, 4),
      cleanShare: number("cleanShare", 0.1, 0.9, 0.5),
      pool: integer("pool", 1, 1 << 20, 48),
      rowSteps: integer("rowSteps", 1, 1 << 20, 6),
      arWeight: number("arWeight", 0, 1e3, 1),
      consistencyWeight: number("consistencyWeight", 0, 1e3, 1),
      softShare: number("softShare", 0, 1, 0.5),
      decay: number("decay", 0, 1, 0.85),
      learningRate: number("learningRate", 0, 1, 2.5e-4),
      arLearningRate: number("arLearningRate", 0, 1, 3e-4),
      weightDecay: number("weightDecay", 0, 10, 0.01),
      clip: number("clip", 0, 1e9, 1),
      lora: integer("lora", 0, 4096, 0),
      trainEmbeddings: check.boolean(given.trainEmbeddings, "trainEmbeddings", false),
      precision: check.oneOf(
        given.precision,
        "precision",
        ["bf16", "f32"] as const,
        backend === "cpu" && features.includes("AVX512_BF16") ? "bf16" : "f32",
      ),
      seed: integer("seed", 0, SEED_MAX, 0),
    },
    type: check.oneOf(given.type, "type", TYPES, "BF16"),
    heldBack: integer("heldBack", 1, 1 << 20, 16),
    threads: integer("threads", 1, 512, defaultThreads()),
    checkpointMinutes: number("checkpointMinutes", 0.01, 1e6, 5),
    resume: check.boolean(given.resume, "resume", false),
    note: given.note === undefined ? null : check.nonEmptyString(given.note, "note"),
    onProgress: check.callback<(progress: DistillProgress) => void>(given.onProgress, "onProgress"),
    signal: check.abortSignal(given.signal) ?? undefined,
  };
}
