import fs from "node:fs/promises";
import path from "node:path";

/**
 * Makes a directory and those above it, where they are missing. Node's `recursive` does not end where the parent is there
 * but takes no directory (ENOENT below /proc): it makes the parent again and again.
 */
export async function makeDirectory(directory: string): Promise<void> {
  const make = (): Promise<void> =>
    fs.mkdir(directory).catch(async (error: NodeJS.ErrnoException) => {
      const isThere = error.code !== "ENOENT" && (await fs.stat(directory).catch(() => null))?.isDirectory();
      if (!isThere) throw error;
    });
  try {
    await make();
  } catch (error) {
    const parent = path.dirname(directory);
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || parent === directory) throw error;
    await makeDirectory(parent);
    await make();
  }
}

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
