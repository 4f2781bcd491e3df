import { randomUUID } from "node:crypto";
import { mkdirSync, renameSync, rmSync } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { CllmError, type CllmErrorCode } from "../errors.js";
import { publish } from "./files.js";

/**
 * The file that a model can be written to as `output`, symbolic links followed.
 *
 * @throws {@link CllmError} with `code` where there is no directory for it, or it is no file.
 */
export async function outputFile(output: string, code: CllmErrorCode): Promise<string> {
  const stat = await fs.stat(output).catch(() => null);
  if (stat === null) {
    const directory = path.dirname(path.resolve(output));
    if ((await fs.stat(directory).catch(() => null))?.isDirectory()) return path.resolve(output);
    throw new CllmError(code, `There is no directory ${directory} to write ${path.basename(output)} to.`);
  }
  if (stat.isDirectory()) throw new CllmError(code, `${output} is a directory.`);
  if (!stat.isFile()) throw new CllmError(code, `${output} is not a regular file.`);
  return fs.realpath(output);
}

/** Whether two paths lead to one file that exists. It may have several names, on some systems also in another case. */
export async function isSameFile(one: string, other: string): Promise<boolean> {
  const paths = [one, other];
  const [a, b] = await Promise.all(paths.map((each) => fs.stat(each).catch(() => null)));
  if (!a || !b) return false;
  if (a.dev === b.dev && a.ino === b.ino && a.ino !== 0) return true;
  const [realA, realB] = await Promise.all(paths.map((each) => fs.realpath(each)));
  return realA === realB;
}

/**
 * Writes a model: `write` makes the file `temporary`, which gets the name `target` when it is complete, and is removed when
 * it is not. The directory of `temporary` is free for other files of the work.
 *
 * @throws {@link CllmError} with `code` where the disk is full or the file cannot be written; what `write` throws.
 */
export async function writeModel(
  target: string,
  code: CllmErrorCode,
  write: (temporary: string) => Promise<void>,
): Promise<void> {
  // The file has a directory of its own. Once the directory is renamed, a thread that is about to create the file cannot.
  const directory = `${target}.${randomUUID().slice(0, 8)}.partial`;
  const temporary = path.join(directory, "model.gguf");
  const removeAll = { recursive: true, force: true } as const;
  try {
    mkdirSync(directory); // synchronous, so that nothing happens before the listener below is there
  } catch (error) {
    throw await explainFailure(error, target, code);
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
  try {
    await write(temporary);
    await publish(temporary, target);
  } catch (error) {
    throw await explainFailure(error, target, code);
  } finally {
    await fs.rm(directory, removeAll);
    process.off("exit", onExit);
  }
}

async function explainFailure(error: unknown, target: string, failure: CllmErrorCode): Promise<unknown> {
  const code = (error as NodeJS.ErrnoException)?.code;
  const text = error instanceof Error ? error.message : String(error);
  const directory = path.dirname(target);
  const free = await fs.statfs(directory).catch(() => null);
  // llama.cpp writes through a C++ stream, which says that it failed but not why.
  const isFull = free !== null && free.blocks > 0 && free.bavail * free.bsize < 1 << 20;
  if (code === "ENOSPC" || (code === failure && isFull)) {
    return new CllmError(failure, `No space is left in ${directory} for ${path.basename(target)}.`, { cause: error });
  }
  if ((error as NodeJS.ErrnoException)?.syscall === undefined) return error;
  return new CllmError(failure, `Could not write ${target}: ${text}`, { cause: error });
}
