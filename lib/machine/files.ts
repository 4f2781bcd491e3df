import fs from "node:fs/promises";
import path from "node:path";

/** Makes a finished temporary file appear under its final name, complete or not at all, even after a power cut. */
export async function publish(temporary: string, final: string): Promise<void> {
  const handle = await fs.open(temporary, "r+");
  await handle.sync().finally(() => handle.close());
  await fs.rename(temporary, final);
  try {
    const directory = await fs.open(path.dirname(final), "r");
    await directory.sync().finally(() => directory.close());
  } catch {
    // Windows cannot open directories, and some file systems cannot sync them; the file has its name all the same.
  }
}
