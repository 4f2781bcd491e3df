import fs from "node:fs/promises";
import type { NativeTrainer } from "../addon.js";
import { addon } from "../binary/binding.js";
import { gpuDevice } from "../machine/gpu.js";
import { checkGpuMemory, checkMemory } from "../machine/memory.js";
import { type Example, rowLabels, trainData } from "./examples.js";
import type { DistillSettings } from "./options.js";
import type { RunFiles } from "./run-files.js";

/** Models of this many parameters or more are trained row by row, to save memory. */
const LARGE_MODEL_PARAMETERS = 30e6;
/** Tokens of a pass of a small model. Its activations then stay in the cache: a fifth faster than passes of 4,000. */
const PASS_TOKENS = 1024;
/** Tokens of a pass of a small model on a GPU; short passes would leave the GPU waiting. */
const GPU_PASS_TOKENS = 16384;
/** Optimiser steps in which the learning rate rises to its peak. */
const WARMUP_STEPS = 50;

/** Makes the trainer of a run, and loads the run's checkpoint where it is resumed. */
export async function openTrainer(
  base: string,
  parameterCount: number,
  examples: readonly Example[],
  fingerprint: string,
  settings: DistillSettings,
  files: RunFiles,
): Promise<NativeTrainer> {
  const { batch, lora, precision, ...recipe } = settings.trained;
  const gpu = gpuDevice();
  const passTokens = gpu !== null ? GPU_PASS_TOKENS : PASS_TOKENS;
  const fittingRows =
    parameterCount < LARGE_MODEL_PARAMETERS ? Math.max(1, Math.floor(passTokens / recipe.rowTokens)) : 1;
  let rowsPerPass = Math.min(batch, fittingRows);
  while (batch % rowsPerPass !== 0) rowsPerPass--;
  const native = {
    ...recipe,
    bf16: precision === "bf16",
    loraRank: lora,
    rowsPerPass,
    passesPerStep: batch / rowsPerPass,
    labels: rowLabels(recipe.rowTokens) * rowsPerPass,
    warmup: WARMUP_STEPS,
    threads: settings.threads,
    gpu: gpu !== null,
    fingerprint,
  };
  const trainer = await addon().createTrainer(base, native, trainData(examples)).promise;
  const { bytes } = trainer.info();
  const advice = "use fewer rowTokens, a smaller batch or lora";
  if (gpu === null) checkMemory(bytes, "the training", advice);
  else checkGpuMemory(bytes, "the training", gpu, advice);
  const hasCheckpoint = settings.resume && (await fs.stat(files.checkpoint).catch(() => null)) !== null;
  await trainer.load(hasCheckpoint ? files.checkpoint : null).promise;
  return trainer;
}
