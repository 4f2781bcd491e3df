import { randomUUID } from "node:crypto";
import fs from "node:fs/promises";
import { publish } from "../machine/files.js";

/** Never half a file under its name. */
export async function writeWhole(file: string, text: string): Promise<void> {
  const temporary = `${file}.${randomUUID().slice(0, 8)}.partial`;
  try {
    await fs.writeFile(temporary, text);
    await publish(temporary, file);
  } finally {
    await fs.rm(temporary, { force: true });
  }
}
