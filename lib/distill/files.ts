import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { CllmError } from "../errors.js";

/** The files of a run, all in one directory beside the output, which is removed when the run has succeeded. */
export interface RunFiles {
  directory: string;
  answers: string;
  checkpoint: string;
  /** Written, then renamed to what it is for. */
  temporary: string;
  quantized: string;
}

/**
 * Opens the directory `OUT.training`. Without `resume` a directory that is there is an error: it may hold hours of work.
 *
 * @throws {@link CllmError} `CLLM_TRAINING_FAILED`
 */
export async function openRun(out: string, resume: boolean): Promise<RunFiles> {
  const target = path.resolve(out);
  const directory = `${target}.training`;
  const parent = await fs.stat(path.dirname(target)).catch(() => null);
  if (!parent?.isDirectory()) throw failed(`There is no directory ${path.dirname(target)} to write ${out} to.`);
  if ((await fs.stat(target).catch(() => null))?.isDirectory()) throw failed(`${out} is a directory.`);
  try {
    await fs.mkdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw describe(error, directory);
    if (!resume) {
      throw failed(`There is an unfinished run in ${directory}: go on with it by resume, or remove the directory.`);
    }
  }
  await lock(directory);
  const file = (name: string) => path.join(directory, name);
  return {
    directory,
    answers: file("answers.jsonl"),
    checkpoint: file("checkpoint.gguf"),
    temporary: file("temporary.gguf"),
    quantized: file("quantized.gguf"),
  };
}

/** Two processes in one directory would destroy each other's checkpoints. A lock of a process that is gone is taken over. */
async function lock(directory: string): Promise<void> {
  const file = path.join(directory, "process");
  const holder = Number(await fs.readFile(file, "utf8").catch(() => "0"));
  if (holder > 0 && holder !== process.pid && isAlive(holder)) {
    throw failed(`The process ${holder} is working in ${directory}.`);
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

export function failed(message: string, cause?: unknown): CllmError {
  return new CllmError("CLLM_TRAINING_FAILED", message, cause === undefined ? {} : { cause });
}

/** An error of the file system with what was being written. */
export function describe(error: unknown, file: string): unknown {
  const { code, errno, message } = error as NodeJS.ErrnoException;
  // A DOMException has a code too, but not of a system call.
  if (error instanceof CllmError || errno === undefined) return error;
  return failed(code === "ENOSPC" ? `No space is left for ${file}.` : `Could not write ${file}: ${message}`, error);
}
