import fs from "node:fs/promises";
import path from "node:path";
import { CllmError } from "../errors.js";

export type Json = Record<string, unknown>;

export function isRecord(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Larger than any tokenizer.json that is known (Gemma's has 34 MB). */
const MAX_BYTES = 256 * 2 ** 20;

/** The text of a file of a checkpoint, or null where the checkpoint has no such file. */
export async function readText(folder: string, file: string): Promise<string | null> {
  const bytes = await readBytes(folder, file);
  return bytes === null ? null : bytes.toString("utf8");
}

export async function readBytes(folder: string, file: string): Promise<Buffer | null> {
  const full = path.join(folder, file);
  try {
    const { size } = await fs.stat(full);
    if (size > MAX_BYTES)
      throw new CllmError("CLLM_INVALID_MODEL", `${full} has ${size} bytes, more than any known one.`);
    return await fs.readFile(full);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
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
