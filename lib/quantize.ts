import { randomUUID } from "node:crypto";
import { mkdirSync, renameSync, rmSync } from "node:fs";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { Task } from "./addon.js";
import { addon } from "./binary/binding.js";
import { runTask } from "./binary/native-task.js";
import { CllmError } from "./errors.js";
import { publish } from "./machine/files.js";
import * as check from "./options.js";

export interface QuantizeOptions {
  /**
   * Also quantise tensors that are quantised already, such as a Q4_1 file to Q4_0. Loses a little more than going from
   * the F16 file. Default: true.
   */
  allowRequantize?: boolean | undefined;
  /** Called with 0 to 1. What it throws rejects the call. */
  onProgress?: ((fraction: number) => void) | undefined;
  /** Stops the work; no file is left behind. */
  signal?: AbortSignal | undefined;
  /** Threads, from 1 to 512. Default: what the system offers. */
  threads?: number | undefined;
}

/**
 * Writes the model `input` as `output` with its weights in another format, by llama.cpp's own quantiser. The format
 * decides how cheap a block of tokens is: see `docs/architecture.md`.
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
  const given = check.optionsObject(options, ["allowRequantize", "onProgress", "signal", "threads"]);
  const allowRequantize = check.boolean(given.allowRequantize, "allowRequantize", true);
  const onProgress = check.callback<(fraction: number) => void>(given.onProgress, "onProgress");
  const signal = check.abortSignal(given.signal);
  const threads = check.integer(given.threads, "threads", 1, 512, Math.min(os.availableParallelism(), 512));
  signal?.throwIfAborted();
  const target = await checkFiles(input, output);

  // In a directory of its own: once that is renamed, a thread that was just about to create the file cannot.
  const directory = `${target}.${randomUUID().slice(0, 8)}.partial`;
  const temporary = path.join(directory, "model.gguf");
  const remove = { recursive: true, force: true } as const;
  try {
    mkdirSync(directory); // in the same turn as the listener below
  } catch (error) {
    throw await describe(error, output);
  }
  // A second Ctrl-C ends the process without waiting: then this is what removes the half file.
  const onExit = (): void => {
    const gone = `${directory}.gone`;
    // Renamed first, in one step: removing its entries and then itself would leave a gap for the thread.
    try {
      renameSync(directory, gone);
    } catch {} // being removed already, or Windows with the file open
    for (const one of [gone, directory]) rmSync(one, remove);
  };
  process.once("exit", onExit);
  const native = { type: type.toUpperCase(), threads, allowRequantize };
  const explain = async (error: unknown): Promise<never> => {
    throw await describe(error, output);
  };
  try {
    const start = (report: ((fraction: number) => void) | null): Task<void> => {
      const task = addon().quantize(input, temporary, native, report);
      return { promise: task.promise.catch(explain), cancel: () => task.cancel() };
    };
    await runTask(start, { signal, onProgress });
    await publish(temporary, target).catch(explain);
  } finally {
    await fs.rm(directory, remove);
    process.off("exit", onExit);
  }
}

/** Refuses what would destroy the input or cannot work; resolves to the file to write, symbolic links followed. */
async function checkFiles(input: string, output: string): Promise<string> {
  const from = await fs.stat(input).catch((cause: unknown) => {
    throw new CllmError("CLLM_MODEL_NOT_FOUND", `There is no file ${input} that can be read.`, { cause });
  });
  if (from.isDirectory()) throw new CllmError("CLLM_INVALID_MODEL", `${input} is a directory, not a GGUF file.`);
  const to = await fs.stat(output).catch(() => null);
  if (to === null) {
    const directory = path.dirname(path.resolve(output));
    const parent = await fs.stat(directory).catch(() => null);
    if (!parent?.isDirectory())
      throw failed(`There is no directory ${directory} to write ${path.basename(output)} to.`);
    return path.resolve(output);
  }
  if (to.isDirectory()) throw failed(`${output} is a directory.`);
  // One file may have several names, and on some systems a name in another case: the inode tells.
  const [real, realInput] = await Promise.all([fs.realpath(output), fs.realpath(input)]);
  if (real === realInput || (to.dev === from.dev && to.ino === from.ino && to.ino !== 0)) {
    throw failed(`The output ${output} is the input ${input} itself. Choose another name.`);
  }
  if (!to.isFile()) throw failed(`${output} is not a regular file.`);
  return real;
}

async function describe(error: unknown, output: string): Promise<unknown> {
  const code = (error as NodeJS.ErrnoException)?.code;
  const text = error instanceof Error ? error.message : String(error);
  const free = await fs.statfs(path.dirname(path.resolve(output))).catch(() => null);
  // llama.cpp writes through a C++ stream, which says that it failed but not why.
  const full = free !== null && free.blocks > 0 && free.bavail * free.bsize < 1 << 20;
  if (code === "ENOSPC" || (code === "CLLM_QUANTIZE_FAILED" && full)) {
    return failed(`No space is left in ${path.dirname(path.resolve(output))} for ${output}.`, error);
  }
  return error instanceof CllmError || !code ? error : failed(`Could not write ${output}: ${text}`, error);
}

function failed(message: string, cause?: unknown): CllmError {
  return new CllmError("CLLM_QUANTIZE_FAILED", message, cause === undefined ? {} : { cause });
}
