import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { CllmError } from "../errors.js";

/** Files of a run, all in one directory beside the output. The directory is removed when the run has succeeded. */
export interface RunFiles {
  directory: string;
  /** The model's own answers, as JSON lines of token ids. */
  answers: string;
  checkpoint: string;
  /** A checkpoint or a model while it is written and measured; it is renamed when it is complete. */
  temporary: string;
  quantized: string;
  /** The lock: the id of the process that works in the directory. */
  process: string;
}

/**
 * Opens the directory `OUT.training`. Without `resume` an existing directory is an error, as it may hold hours of work.
 *
 * @throws {@link CllmError} `CLLM_TRAINING_FAILED`
 */
export async function openRun(out: string, resume: boolean): Promise<RunFiles> {
  const target = path.resolve(out);
  const directory = `${target}.training`;
  const parent = await fs.stat(path.dirname(target)).catch(() => null);
  if (!parent?.isDirectory()) throw trainingError(`There is no directory ${path.dirname(target)} to write ${out} to.`);
  if ((await fs.stat(target).catch(() => null))?.isDirectory()) throw trainingError(`${out} is a directory.`);
  try {
    await fs.mkdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw asTrainingError(error, directory);
    if (!resume) {
      throw trainingError(
        `There is an unfinished run in ${directory}: go on with it by resume, or remove the directory.`,
      );
    }
  }
  const file = (name: string) => path.join(directory, name);
  await lock(directory, file("process"));
  return {
    directory,
    answers: file("answers.jsonl"),
    checkpoint: file("checkpoint.gguf"),
    temporary: file("temporary.gguf"),
    quantized: file("quantized.gguf"),
    process: file("process"),
  };
}

/** Removes the files of a failed run, except for those from which another run can go on. */
export async function discardUnfinished({ directory, temporary, quantized, process }: RunFiles): Promise<void> {
  for (const file of [temporary, quantized, process]) await fs.rm(file, { force: true });
  // This removes the directory only where it is empty; it would be in the way of the next run.
  await fs.rmdir(directory).catch(() => {});
}

/** Keeps two processes from destroying each other's checkpoints. The lock of a process that is gone is taken over. */
async function lock(directory: string, file: string): Promise<void> {
  const holder = Number(await fs.readFile(file, "utf8").catch(() => "0"));
  if (holder > 0 && holder !== process.pid && isAlive(holder)) {
    throw trainingError(`The process ${holder} is working in ${directory}.`);
  }
  await fs.writeFile(file, String(process.pid));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

export async function sha256(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

function trainingError(message: string, cause?: unknown): CllmError {
  return new CllmError("CLLM_TRAINING_FAILED", message, cause === undefined ? {} : { cause });
}

/** Turns an error of the file system into one that says what could not be written, and leaves others as they are. */
export function asTrainingError(error: unknown, file: string): unknown {
  const { code, errno, message } = error as NodeJS.ErrnoException;
  // A DOMException has a code too, but only an error of a system call has an errno.
  if (error instanceof CllmError || errno === undefined) return error;
  return trainingError(
    code === "ENOSPC" ? `No space is left for ${file}.` : `Could not write ${file}: ${message}`,
    error,
  );
}
