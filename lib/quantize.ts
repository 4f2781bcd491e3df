import fs from "node:fs/promises";
import type { Task } from "./addon.js";
import { addon } from "./binary/binding.js";
import { runTask } from "./binary/native-task.js";
import { CllmError } from "./errors.js";
import { MAX_THREADS } from "./limits.js";
import { isSameFile, outputFile, writeModel } from "./machine/model-output.js";
import { defaultThreads } from "./machine/threads.js";
import * as check from "./options.js";

const FAILED = "CLLM_QUANTIZE_FAILED";

export interface QuantizeOptions {
  /**
   * Also quantise tensors that are quantised already, as when a Q4_1 file becomes Q4_0. That loses a little more than
   * starting from the F16 file. Default: true.
   */
  allowRequantize?: boolean | undefined;
  /** Called with a fraction from 0 to 1. An error that it throws rejects the call. */
  onProgress?: ((fraction: number) => void) | undefined;
  /** Stops the work; no file is left behind. */
  signal?: AbortSignal | undefined;
  /** Threads, from 1 to 512. Default: physical cores. */
  threads?: number | undefined;
}

/**
 * Writes the model `input` as `output` with its weights in another format, by llama.cpp's own quantiser. The format
 * decides how cheap a block of tokens is: see `docs/formats.md`.
 *
 * `type` is llama.cpp's name, in either case: `F32`, `F16`, `BF16`, `Q8_0`, `Q4_0`, `Q4_K_M`, ... The file appears
 * under its name only when it is complete, and then replaces what was there; the input cannot be the output.
 *
 * @throws {@link CllmError} `CLLM_MODEL_NOT_FOUND`, `CLLM_QUANTIZE_FAILED` (unknown type, not a GGUF file, disk full).
 * @throws TypeError, RangeError for a wrong option.
 * @throws `signal.reason` when aborted.
 * @example
 * await quantize("model-f16.gguf", "model-q4_0.gguf", "Q4_0");
 */
export async function quantize(
  input: string,
  output: string,
  type: string,
  options: QuantizeOptions = {},
): Promise<void> {
  check.nonEmptyString(input, "input");
  check.nonEmptyString(output, "output");
  check.nonEmptyString(type, "type");
  const { allowRequantize, onProgress, signal, threads } = check.readOptions(options, (read) => ({
    allowRequantize: read.boolean("allowRequantize", true),
    onProgress: read.callback<(fraction: number) => void>("onProgress"),
    signal: read.abortSignal("signal"),
    threads: read.integer("threads", 1, MAX_THREADS, defaultThreads()),
  }));
  signal?.throwIfAborted();
  const target = await checkFiles(input, output);

  const nativeOptions = { type: type.toUpperCase(), threads, allowRequantize };
  await writeModel(target, FAILED, async (temporary) => {
    const start = (report: ((fraction: number) => void) | null): Task<void> => {
      const task = addon().quantize(input, temporary, nativeOptions, report);
      return { promise: task.promise, cancel: () => task.cancel() };
    };
    await runTask(start, { signal, onProgress });
  });
}

/** Refuses an output that is the input or cannot be written. Resolves to the file to write, symbolic links followed. */
async function checkFiles(input: string, output: string): Promise<string> {
  const inputStat = await fs.stat(input).catch((cause: unknown) => {
    throw new CllmError("CLLM_MODEL_NOT_FOUND", `There is no file ${input} that can be read.`, { cause });
  });
  if (inputStat.isDirectory()) throw new CllmError("CLLM_INVALID_MODEL", `${input} is a directory, not a GGUF file.`);
  const target = await outputFile(output, FAILED);
  if (await isSameFile(target, input)) {
    throw new CllmError(FAILED, `The output ${output} is the input ${input} itself. Choose another name.`);
  }
  return target;
}
