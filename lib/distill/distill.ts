import fs from "node:fs/promises";
import type { NativeTrainer, TrainStep } from "../addon.js";
import { addon, binaryInfo } from "../binary/binding.js";
import { publish } from "../machine/files.js";
import { gpuDevice } from "../machine/gpu.js";
import { checkGpuMemory, checkMemory } from "../machine/memory.js";
import { Model } from "../model.js";
import * as check from "../options.js";
import { type PromptItem, readPromptData } from "../prompt-data.js";
import { quantize } from "../quantize.js";
import { type Example, hashOf, ownAnswers, splitHeldBack, tokenise, trainData } from "./examples.js";
import { describe, openRun, type RunFiles, sha256 } from "./files.js";
import { type HeldBackFigures, measureHeldBack } from "./measure.js";
import { type DistillOptions, type DistillProgress, type DistillSettings, distillSettings } from "./options.js";

/** What came of a training. */
export interface DistillResult {
  /** The file. */
  out: string;
  /** Examples trained on, and held back. */
  examples: number;
  heldBack: number;
  /** Optimiser steps of both stages, and tokens through the model in them (of this run, where it was resumed). */
  steps: number;
  trainedTokens: number;
  /** On the held-back prompts, decoded with the file. */
  figures: HeldBackFigures;
  /** The last step. */
  last: TrainStep | null;
  seconds: number;
}

/** Larger models go row by row, for their memory. */
const SMALL_PARAMETERS = 30e6;
/** Of a pass of a small model: its activations stay in the cache then (a fifth faster than 4,000 at a time). */
const PASS_TOKENS = 1024;
/** The same on a GPU, which many short passes would leave waiting. */
const GPU_PASS_TOKENS = 16384;
/** Of a row's tokens, those that can have a label. */
const LABEL_SHARE = 0.75;
const SLICE_MILLISECONDS = 1000;

/**
 * Trains a model into a consistency LLM (CLLM, arXiv 2403.00835): blocks of draft tokens, as Jacobi decoding visits them,
 * learn to be right in few passes. Everything runs natively through ggml. Architectures: llama, qwen2, qwen3 (dense).
 *
 * `base`: a GGUF file in any format. `data`: JSON lines with `prompt` or `messages`, and with answers where
 * `options.answers` is `given`. A checkpoint is kept in `OUT.training` until the run has succeeded; after a kill or an
 * abort `resume: true` goes on from it, to the same result as an unbroken run with the same threads, on the same backend.
 *
 * @throws {@link CllmError} `CLLM_INVALID_DATA` (with the line), `CLLM_UNSUPPORTED_MODEL`, `CLLM_OUT_OF_MEMORY` (before
 * anything is allocated), `CLLM_TRAINING_FAILED` (disk full, loss not finite, an unfinished run in the way).
 * @throws TypeError, RangeError for a wrong option; the signal's reason after an abort.
 * @example
 * const { figures } = await distill("model.gguf", "prompts.jsonl", { out: "cllm.gguf", epochs: 1 });
 */
export async function distill(base: string, data: string, options: DistillOptions): Promise<DistillResult> {
  check.nonEmptyString(base, "base");
  check.nonEmptyString(data, "data");
  const settings = distillSettings(options);
  settings.signal?.throwIfAborted();
  const items = await readPromptData(data, settings.answers === "given");
  const files = await openRun(settings.out, settings.resume);
  try {
    const result = await new Run(base, settings, files).go(items);
    await fs.rm(files.directory, { recursive: true, force: true });
    return result;
  } catch (error) {
    await fs.rm(files.temporary, { force: true });
    await fs.rm(files.quantized, { force: true });
    await fs.rm(`${files.directory}/process`, { force: true });
    // An empty directory would only be in the way of the next run.
    await fs.rmdir(files.directory).catch(() => {});
    throw describe(error, files.directory);
  }
}

class Run {
  readonly #started = Date.now();
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

  constructor(
    readonly base: string,
    readonly settings: DistillSettings,
    readonly files: RunFiles,
  ) {}

  async go(items: PromptItem[]): Promise<DistillResult> {
    const { settings } = this;
    const { rowTokens, blockSize } = settings.trained;
    // A row holds a prompt, its answer and one block at least; labels are counted as native/train/trainer.cpp does.
    const room = rowTokens - blockSize;
    const baseHash = await sha256(this.base);
    const { examples, parameters } = await this.#examples(items, room);
    const { trained, heldBack } = splitHeldBack(examples, settings.heldBack);
    const fingerprint = hashOf([
      baseHash,
      JSON.stringify({ ...settings.trained, backend: binaryInfo().backend }),
      ...examples.flatMap(({ prompt, answer }) => [prompt, answer]),
    ]);
    const trainer = await this.#trainer(trained, parameters, fingerprint);
    try {
      const { last, tokens } = await this.#train(trainer, heldBack);
      const figures = await this.#write(trainer, heldBack, baseHash, fingerprint);
      return {
        out: settings.out,
        examples: trained.length,
        heldBack: heldBack.length,
        steps: trainer.info().steps,
        trainedTokens: tokens,
        figures,
        last,
        seconds: (Date.now() - this.#started) / 1000,
      };
    } finally {
      trainer.dispose();
    }
  }

  #report(change: Partial<DistillProgress>): void {
    this.#progress = { ...this.#progress, ...change };
    this.settings.onProgress?.(this.#progress);
  }

  /** The data as tokens, and how many parameters the base has. */
  async #examples(items: PromptItem[], room: number): Promise<{ examples: Example[]; parameters: number }> {
    const { settings, files } = this;
    const model = await Model.load(this.base, { signal: settings.signal });
    try {
      const given = settings.answers === "given";
      const onTokenised = (done: number) => this.#report({ stage: "tokenise", done, total: items.length });
      const { prompts, answers: givenAnswers } = await tokenise(
        model,
        items,
        room,
        given,
        settings.signal,
        onTokenised,
      );
      const begun = Date.now();
      let first: number | null = null;
      let answered = 0;
      const onDone = (done: number) => {
        if (done > 0) answered = done;
        first ??= answered;
        const pace = (Date.now() - begun) / Math.max(1, answered - first);
        const secondsLeft = answered > first ? ((prompts.length - answered) * pace) / 1000 : null;
        this.#report({ stage: "answers", done: answered, total: prompts.length, secondsLeft });
      };
      const answers = given ? givenAnswers : await ownAnswers(model, prompts, room, settings, files.answers, onDone);
      const examples = prompts.map((prompt, i) => ({ prompt, answer: answers[i] as Int32Array }));
      return { examples, parameters: model.info.parameterCount };
    } finally {
      await model.dispose();
    }
  }

  async #trainer(trained: readonly Example[], parameters: number, fingerprint: string): Promise<NativeTrainer> {
    const { settings, files } = this;
    const { batch, lora, precision, ...rest } = settings.trained;
    const gpu = gpuDevice();
    const passTokens = gpu !== null ? GPU_PASS_TOKENS : PASS_TOKENS;
    const fitting = parameters < SMALL_PARAMETERS ? Math.max(1, Math.floor(passTokens / rest.rowTokens)) : 1;
    let rowsPerPass = Math.min(batch, fitting);
    while (batch % rowsPerPass !== 0) rowsPerPass--;
    const native = {
      ...rest,
      bf16: precision === "bf16",
      loraRank: lora,
      rowsPerPass,
      passesPerStep: batch / rowsPerPass,
      labels: Math.floor(rest.rowTokens * LABEL_SHARE) * rowsPerPass,
      warmup: 50,
      threads: settings.threads,
      gpu: gpu !== null,
      fingerprint,
    };
    const trainer = await addon().createTrainer(this.base, native, trainData(trained)).promise;
    const { bytes } = trainer.info();
    const advice = "use fewer rowTokens, a smaller batch or lora";
    if (gpu === null) checkMemory(bytes, "the training", advice);
    else checkGpuMemory(bytes, "the training", gpu, advice);
    const checkpoint = settings.resume && (await fs.stat(files.checkpoint).catch(() => null));
    await trainer.load(checkpoint ? files.checkpoint : null).promise;
    return trainer;
  }

  async #train(trainer: NativeTrainer, heldBack: readonly Example[]) {
    const { settings } = this;
    const { steps } = trainer.info();
    const first = trainer.info().step;
    const begun = Date.now();
    let saved = begun;
    let paused = 0;
    let tokens = 0;
    let last: TrainStep | null = null;
    for (;;) {
      const made = await trainer.run(SLICE_MILLISECONDS).promise;
      const step = made.at(-1);
      if (step === undefined) break;
      last = step;
      for (const one of made) tokens += one.tokens;
      const seconds = (Date.now() - begun - paused) / 1000;
      const mean = (name: "answerLoss" | "blockLoss") => made.reduce((sum, one) => sum + one[name], 0) / made.length;
      this.#report({
        stage: step.phase,
        done: step.step,
        total: steps,
        answerLoss: mean("answerLoss"),
        blockLoss: step.phase === "consistency" ? mean("blockLoss") : null,
        tokensPerSecond: tokens / seconds,
        secondsLeft: (seconds / (step.step - first)) * (steps - step.step),
      });
      const stop = settings.signal?.aborted;
      if (!stop && Date.now() - saved < settings.checkpointMinutes * 60_000) continue;
      const pausedAt = Date.now();
      await trainer.saveCheckpoint(this.files.temporary).promise;
      await publish(this.files.temporary, this.files.checkpoint);
      settings.signal?.throwIfAborted();
      if (step.step < steps) await this.#measure(trainer, heldBack);
      paused += Date.now() - pausedAt;
      saved = Date.now();
    }
    return { last, tokens };
  }

  /** Decodes the held-back prompts with the weights as they are. */
  async #measure(trainer: NativeTrainer, heldBack: readonly Example[]): Promise<HeldBackFigures> {
    const { temporary } = this.files;
    this.#report({ stage: "evaluate" });
    await trainer.write(temporary, this.settings.trained.precision === "bf16", {}).promise;
    const figures = await this.#decode(temporary, heldBack);
    await fs.rm(temporary);
    this.#report({ tokensPerIteration: figures.tokensPerIteration });
    return figures;
  }

  #decode(file: string, heldBack: readonly Example[]): Promise<HeldBackFigures> {
    const { threads, trained } = this.settings;
    return measureHeldBack(file, heldBack, trained.blockSize, trained.rowTokens, threads, this.settings.signal);
  }

  /** The file with its provenance; proven by decoding with it before it gets its name. */
  async #write(
    trainer: NativeTrainer,
    heldBack: readonly Example[],
    baseHash: string,
    fingerprint: string,
  ): Promise<HeldBackFigures> {
    const { settings, files } = this;
    const measured = await this.#measure(trainer, heldBack);
    this.#report({ stage: "write" });
    const notes: Record<string, string> = {
      "cllm.base_sha256": baseHash,
      "cllm.run_sha256": fingerprint,
      // Without consistency training it is an ordinary model, whose decoder should know that.
      ...(settings.trained.epochs > 0 && { "cllm.block_size": String(settings.trained.blockSize) }),
      "cllm.recipe": JSON.stringify({ answers: settings.answers, ...settings.trained }),
      "cllm.figures": JSON.stringify(measured),
    };
    if (settings.note !== null) notes["cllm.note"] = settings.note;
    const quantized = settings.type === "Q8_0" || settings.type === "Q4_0";
    await trainer.write(files.temporary, settings.type === "BF16", notes).promise;
    let file = files.temporary;
    if (quantized) {
      await quantize(files.temporary, files.quantized, settings.type, {
        threads: settings.threads,
        signal: settings.signal,
      });
      file = files.quantized;
    }
    const figures = quantized ? await this.#decode(file, heldBack) : measured;
    if (!quantized) await this.#decode(file, heldBack.slice(0, 1));
    await publish(file, settings.out);
    this.#report({ stage: "write", done: 1, total: 1, secondsLeft: 0, tokensPerIteration: figures.tokensPerIteration });
    return figures;
  }
}
