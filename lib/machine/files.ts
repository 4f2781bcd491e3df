import fs from "node:fs/promises";

/** Makes `from`, once it is complete on the disk, the file `to`. */
export async function publish(from: string, to: string): Promise<void> {
  const handle = await fs.open(from, "r+");
  await handle.sync().finally(() => handle.close());
  await fs.rename(from, to);
}
