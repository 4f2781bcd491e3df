import fs from "node:fs/promises";
import path from "node:path";
import { CllmError } from "../errors.js";

export type Json = Record<string, unknown>;

export function isRecord(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Larger than any tokenizer.json that is known (Gemma's has 34 MB). */
const MAX_BYTES = 256 * 2 ** 20;

/** A value of a file for a message: shortened, and never an error itself. */
export function show(value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {} // nested too deep
  if (text === undefined) return typeof value;
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** The text of a file of a checkpoint, or null where the checkpoint has no such file. */
export async function readText(folder: string, file: string): Promise<string | null> {
  const bytes = await readBytes(folder, file);
  return bytes === null ? null : bytes.toString("utf8");
}

export async function readBytes(folder: string, file: string): Promise<Buffer | null> {
  const full = path.join(folder, file);
  const isListed = await fs.lstat(full).then(
    () => true,
    () => false,
  );
  if (!isListed) return null;
  try {
    const stat = await fs.stat(full);
    if (!stat.isFile()) throw new Error("it is no regular file");
    if (stat.size > MAX_BYTES) throw new Error(`it has ${stat.size} bytes, more than any known one`);
    return await fs.readFile(full);
  } catch (cause) {
    throw unreadable(full, cause);
  }
}

/** The error for a file of a checkpoint that is there and cannot be read. */
export function unreadable(file: string, cause: unknown): CllmError {
  if (cause instanceof CllmError) return cause;
  return new CllmError("CLLM_INVALID_MODEL", `${file} cannot be read: ${(cause as Error).message}.`, { cause });
}

/**
 * A JSON file of a checkpoint, or null where the checkpoint has no such file.
 *
 * @throws {@link CllmError} `CLLM_INVALID_MODEL` where it is no JSON.
 */
export async function readJson(folder: string, file: string): Promise<unknown> {
  const text = await readText(folder, file);
  if (text === null) return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CllmError("CLLM_INVALID_MODEL", `${path.join(folder, file)} is no JSON: ${(error as Error).message}.`);
  }
}

/** The same for a file that holds an object. */
export async function readObject(folder: string, file: string): Promise<Json | null> {
  const value = await readJson(folder, file);
  if (value === null || isRecord(value)) return value;
  throw new CllmError("CLLM_INVALID_MODEL", `${path.join(folder, file)} holds no object.`);
}
