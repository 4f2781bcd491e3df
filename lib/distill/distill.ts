import fs from "node:fs/promises";
import type { NativeTrainer, TrainStep } from "../addon.js";
import { binaryInfo } from "../binary/binding.js";
import { publish } from "../machine/files.js";
import { outputFile, writeModel } from "../machine/model-output.js";
import { Model } from "../model.js";
import * as check from "../options.js";
import { type PromptItem, readPromptData, topicOf, withoutRepetitions } from "../prompt-data.js";
import { quantize } from "../quantize.js";
import { type Example, hashOf, ownAnswers, rowCapacity, splitHeldBack, tokenise } from "./examples.js";
import { type HeldBackFigures, measureHeldBack } from "./measure.js";
import { type DistillOptions, type DistillProgress, type DistillSettings, distillSettings } from "./options.js";
import { Pace } from "./pace.js";
import { asTrainingError, discardUnfinished, openRun, type RunFiles, sha256 } from "./run-files.js";
import { openTrainer } from "./trainer.js";

/** Result of a training. */
export interface DistillResult {
  /** The file that was written. */
  out: string;
  /** Examples that were trained on. */
  examples: number;
  /** Examples that were held back, with all others of their topics: turns of one chat stay together. */
  heldBack: number;
  /** Prompts of the data that stood there before, and were left out. */
  repetitions: number;
  /** Optimiser steps of both stages. */
  steps: number;
  /** Tokens that went through the model in training; a resumed run counts only its own. */
  trainedTokens: number;
  /** Figures of the file on the held-back prompts. */
  figures: HeldBackFigures;
  /** The last optimiser step. */
  last: TrainStep | null;
  seconds: number;
}

/** Milliseconds of training between two reports of its progress. */
const SLICE_MILLISECONDS = 1000;

/**
 * Trains a model into a consistency LLM (CLLM, arXiv 2403.00835): blocks of draft tokens, as Jacobi decoding visits them,
 * learn to be right in few passes. Everything runs natively through ggml. Architectures: llama, qwen2, qwen3 (dense).
 *
 * `base` is a GGUF file in any format. `data` is a file of prompts, of a form that {@link readPromptData} reads, with answers
 * where `options.answers` is `given`; what is in it twice counts once. A checkpoint is kept in `OUT.training` until the run has succeeded. After a kill or an abort
 * `resume: true` goes on from the checkpoint; with the same threads and backend the result is that of an unbroken run.
 *
 * @throws {@link CllmError} `CLLM_INVALID_DATA` (with the line), `CLLM_UNSUPPORTED_MODEL`, `CLLM_OUT_OF_MEMORY` (before
 * anything is allocated), `CLLM_TRAINING_FAILED` (disk full, loss not finite, an unfinished run in the way), and the errors
 * of Model.load().
 * @throws TypeError, RangeError for a wrong option; the signal's reason after an abort.
 * @example
 * const { figures } = await distill("model.gguf", "prompts.jsonl", { out: "cllm.gguf", epochs: 1 });
 */
export async function distill(base: string, data: string, options: DistillOptions): Promise<DistillResult> {
  check.nonEmptyString(base, "base");
  check.nonEmptyString(data, "data");
  const settings = distillSettings(options);
  settings.signal?.throwIfAborted();
  const hasAnswers = settings.answers === "given";
  const read = await readPromptData(data, hasAnswers);
  const items = withoutRepetitions(read, hasAnswers);
  const files = await openRun(settings.out, settings.resume);
  try {
    const result = await new Run(base, settings, files).complete(items, read.length - items.length);
    await fs.rm(files.directory, { recursive: true, force: true });
    return result;
  } catch (error) {
    await discardUnfinished(files);
    throw asTrainingError(error, files.directory);
  }
}

class Run {
  readonly #base: string;
  readonly #settings: DistillSettings;
  readonly #files: RunFiles;
  readonly #startedAt = Date.now();
  #progress: DistillProgress = {
    stage: "tokenise",
    done: 0,
    total: 0,
    answerLoss: null,
    blockLoss: null,
    tokensPerIteration: null,
    tokensPerSecond: 0,
    secondsLeft: null,
  };

  constructor(base: string, settings: DistillSettings, files: RunFiles) {
    this.#base = base;
    this.#settings = settings;
    this.#files = files;
  }

  async complete(items: readonly PromptItem[], repetitions: number): Promise<DistillResult> {
    const settings = this.#settings;
    const { examples, parameterCount } = await this.#makeExamples(items);
    const { trained, heldBack } = splitHeldBack(examples, items.map(topicOf), settings.heldBack);
    const baseHash = await sha256(this.#base);
    const fingerprint = hashOf([
      baseHash,
      JSON.stringify({ ...settings.trained, backend: binaryInfo().backend }),
      ...examples.flatMap(({ prompt, answer }) => [prompt, answer]),
    ]);
    const trainer = await openTrainer(this.#base, parameterCount, trained, fingerprint, settings, this.#files);
    try {
      const { last, tokens } = await this.#train(trainer, heldBack);
      const figures = await this.#write(trainer, heldBack, baseHash, fingerprint);
      return {
        out: settings.out,
        examples: trained.length,
        heldBack: heldBack.length,
        repetitions,
        steps: trainer.info().steps,
        trainedTokens: tokens,
        figures,
        last,
        seconds: (Date.now() - this.#startedAt) / 1000,
      };
    } finally {
      trainer.dispose();
    }
  }

  #report(change: Partial<DistillProgress>): void {
    this.#progress = { ...this.#progress, ...change };
    this.#settings.onProgress?.(this.#progress);
  }

  /** Makes examples from the data, with the data's answers or the base model's own. */
  async #makeExamples(items: readonly PromptItem[]): Promise<{ examples: Example[]; parameterCount: number }> {
    const { answers: source, signal, trained } = this.#settings;
    const capacity = rowCapacity(trained.rowTokens, trained.blockSize);
    const model = await Model.load(this.#base, { signal });
    try {
      const hasAnswers = source === "given";
      const onTokenised = (done: number) => this.#report({ stage: "tokenise", done, total: items.length });
      const tokenised = await tokenise(model, items, capacity, hasAnswers, signal, onTokenised);
      const { prompts } = tokenised;
      let pace: Pace | null = null;
      const onAnswered = (done: number) => {
        pace ??= new Pace(done);
        const total = prompts.length;
        this.#report({ stage: "answers", done, total, secondsLeft: pace.secondsLeft(done, total) });
      };
      const answers = hasAnswers
        ? tokenised.answers
        : await ownAnswers(model, prompts, capacity, this.#settings, this.#files.answers, onAnswered);
      const examples = prompts.map((prompt, i) => ({ prompt, answer: answers[i] as Int32Array }));
      return { examples, parameterCount: model.info.parameterCount };
    } finally {
      await model.dispose();
    }
  }

  async #train(trainer: NativeTrainer, heldBack: readonly Example[]) {
    const { checkpointMinutes, signal } = this.#settings;
    const { step: firstStep, steps: totalSteps } = trainer.info();
    const pace = new Pace(firstStep);
    let savedAt = Date.now();
    let tokens = 0;
    let last: TrainStep | null = null;
    for (;;) {
      const slice = await trainer.run(SLICE_MILLISECONDS).promise;
      const step = slice.at(-1);
      if (step === undefined) return { last, tokens };
      last = step;
      for (const { tokens: stepTokens } of slice) tokens += stepTokens;
      const mean = (loss: "answerLoss" | "blockLoss") => slice.reduce((sum, it) => sum + it[loss], 0) / slice.length;
      this.#report({
        stage: step.phase,
        done: step.step,
        total: totalSteps,
        answerLoss: mean("answerLoss"),
        blockLoss: step.phase === "consistency" ? mean("blockLoss") : null,
        tokensPerSecond: tokens / pace.seconds,
        secondsLeft: pace.secondsLeft(step.step, totalSteps),
      });
      const isDue = Date.now() - savedAt >= checkpointMinutes * 60_000;
      if (!isDue && !signal?.aborted) continue;
      await pace.pause(async () => {
        await trainer.saveCheckpoint(this.#files.temporary).promise;
        await publish(this.#files.temporary, this.#files.checkpoint);
        signal?.throwIfAborted();
        if (step.step < totalSteps) await this.#measure(trainer, heldBack);
      });
      savedAt = Date.now();
    }
  }

  /** Decodes the held-back prompts with the weights as they are. */
  async #measure(trainer: NativeTrainer, heldBack: readonly Example[]): Promise<HeldBackFigures> {
    const { temporary } = this.#files;
    this.#report({ stage: "evaluate" });
    await trainer.write(temporary, this.#settings.trained.precision === "bf16" ? "BF16" : "F32", {}).promise;
    const figures = await measureHeldBack(temporary, heldBack, this.#settings);
    await fs.rm(temporary);
    this.#report({ tokensPerIteration: figures.tokensPerIteration });
    return figures;
  }

  /** Writes the file with its provenance. The file gets its name after prompts have been decoded with it. */
  async #write(
    trainer: NativeTrainer,
    heldBack: readonly Example[],
    baseHash: string,
    fingerprint: string,
  ): Promise<HeldBackFigures> {
    const settings = this.#settings;
    const { type, trained, threads, signal } = settings;
    const { temporary, quantized } = this.#files;
    let figures = await this.#measure(trainer, heldBack);
    this.#report({ stage: "write" });
    const metadata: Record<string, string> = {
      "cllm.base_sha256": baseHash,
      "cllm.run_sha256": fingerprint,
      // A decoder takes a model without this key for an ordinary one, which it is without consistency training.
      ...(trained.epochs > 0 && { "cllm.block_size": String(trained.blockSize) }),
      "cllm.recipe": JSON.stringify({ answers: settings.answers, ...trained }),
      "cllm.figures": JSON.stringify(figures),
      ...(settings.note !== null && { "cllm.note": settings.note }),
    };
    await trainer.write(temporary, type === "BF16" ? "BF16" : "F32", metadata).promise;
    if (type === "F32" || type === "BF16") {
      await measureHeldBack(temporary, heldBack.slice(0, 1), settings);
      await publish(temporary, settings.out);
    } else {
      await quantize(temporary, quantized, type, { threads, signal });
      figures = await measureHeldBack(quantized, heldBack, settings);
      await publish(quantized, settings.out);
    }
    if (settings.adapter !== null) {
      const target = await outputFile(settings.adapter, "CLLM_TRAINING_FAILED");
      await writeModel(target, "CLLM_TRAINING_FAILED", (file) => trainer.write(file, "adapters", metadata).promise);
    }
    this.#report({ stage: "write", done: 1, total: 1, secondsLeft: 0, tokensPerIteration: figures.tokensPerIteration });
    return figures;
  }
}
