import { randomUUID } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { publish } from "../machine/files.js";
import { UsageError } from "./exit.js";

/** Refuses a file that cannot be written, before the work begins whose result goes there. */
export async function checkOutputFile(option: string, file: string): Promise<void> {
  const directory = path.dirname(path.resolve(file));
  const isDirectory = async (name: string) => (await fs.stat(name).catch(() => null))?.isDirectory() ?? false;
  if (await isDirectory(file)) throw new UsageError(`${option} names a directory: ${file}`);
  if (await isDirectory(directory)) return;
  throw new UsageError(`${option} names a file in a directory that does not exist: ${file}`);
}

/** Writes a file that appears under its name only when it is complete. */
export async function writeOutputFile(file: string, text: string): Promise<void> {
  const temporary = `${file}.${randomUUID().slice(0, 8)}.partial`;
  try {
    await fs.writeFile(temporary, text);
    await publish(temporary, file);
  } catch (cause) {
    throw new Error(`Could not write ${file}: ${(cause as Error).message}`, { cause });
  } finally {
    await fs.rm(temporary, { force: true });
  }
}
