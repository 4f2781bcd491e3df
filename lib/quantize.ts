import { randomUUID } from "node:crypto";
import { mkdirSync, renameSync, rmSync } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import type { Task } from "./addon.js";
import { addon } from "./binary/binding.js";
import { runTask } from "./binary/native-task.js";
import { CllmError } from "./errors.js";
import { MAX_THREADS } from "./limits.js";
import { publish } from "./machine/files.js";
import { defaultThreads } from "./machine/threads.js";
import * as check from "./options.js";

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

  // The file has a directory of its own. Once the directory is renamed, a thread that is about to create the file cannot.
  const directory = `${target}.${randomUUID().slice(0, 8)}.partial`;
  const temporary = path.join(directory, "model.gguf");
  const removeAll = { recursive: true, force: true } as const;
  try {
    mkdirSync(directory); // synchronous, so that nothing happens before the listener below is there
  } catch (error) {
    throw await explainFailure(error, output);
  }
  // A second Ctrl-C ends the process without waiting. Then this listener removes the half-written file.
  const onExit = (): void => {
    const renamed = `${directory}.gone`;
    // Renaming is one step; removing entries and then the directory would leave the thread time to create the file.
    try {
      renameSync(directory, renamed);
    } catch {} // the directory is being removed already, or this is Windows and the file is open
    for (const name of [renamed, directory]) rmSync(name, removeAll);
  };
  process.once("exit", onExit);
  const nativeOptions = { type: type.toUpperCase(), threads, allowRequantize };
  const throwExplained = async (error: unknown): Promise<never> => {
    throw await explainFailure(error, output);
  };
  try {
    const start = (report: ((fraction: number) => void) | null): Task<void> => {
      const task = addon().quantize(input, temporary, nativeOptions, report);
      return { promise: task.promise.catch(throwExplained), cancel: () => task.cancel() };
    };
    await runTask(start, { signal, onProgress });
    await publish(temporary, target).catch(throwExplained);
  } finally {
    await fs.rm(directory, removeAll);
    process.off("exit", onExit);
  }
}

/** Refuses an output that is the input or cannot be written. Resolves to the file to write, symbolic links followed. */
async function checkFiles(input: string, output: string): Promise<string> {
  const inputStat = await fs.stat(input).catch((cause: unknown) => {
    throw new CllmError("CLLM_MODEL_NOT_FOUND", `There is no file ${input} that can be read.`, { cause });
  });
  if (inputStat.isDirectory()) throw new CllmError("CLLM_INVALID_MODEL", `${input} is a directory, not a GGUF file.`);
  const outputStat = await fs.stat(output).catch(() => null);
  if (outputStat === null) {
    const directory = path.dirname(path.resolve(output));
    const parent = await fs.stat(directory).catch(() => null);
    if (!parent?.isDirectory())
      throw failed(`There is no directory ${directory} to write ${path.basename(output)} to.`);
    return path.resolve(output);
  }
  if (outputStat.isDirectory()) throw failed(`${output} is a directory.`);
  // One file may have several names, on some systems also in another case; the inode tells whether it is one file.
  const [realOutput, realInput] = await Promise.all([fs.realpath(output), fs.realpath(input)]);
  const { dev, ino } = outputStat;
  if (realOutput === realInput || (dev === inputStat.dev && ino === inputStat.ino && ino !== 0)) {
    throw failed(`The output ${output} is the input ${input} itself. Choose another name.`);
  }
  if (!outputStat.isFile()) throw failed(`${output} is not a regular file.`);
  return realOutput;
}

async function explainFailure(error: unknown, output: string): Promise<unknown> {
  const code = (error as NodeJS.ErrnoException)?.code;
  const text = error instanceof Error ? error.message : String(error);
  const free = await fs.statfs(path.dirname(path.resolve(output))).catch(() => null);
  // llama.cpp writes through a C++ stream, which says that it failed but not why.
  const isFull = free !== null && free.blocks > 0 && free.bavail * free.bsize < 1 << 20;
  if (code === "ENOSPC" || (code === "CLLM_QUANTIZE_FAILED" && isFull)) {
    return failed(`No space is left in ${path.dirname(path.resolve(output))} for ${output}.`, error);
  }
  return error instanceof CllmError || !code ? error : failed(`Could not write ${output}: ${text}`, error);
}

function failed(message: string, cause?: unknown): CllmError {
  return new CllmError("CLLM_QUANTIZE_FAILED", message, cause === undefined ? {} : { cause });
}
