import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { CllmError } from "../errors.js";

/**
 * The directory of pulled models: `CLLM_CACHE`, or else by the platform's convention `$XDG_CACHE_HOME/node-cllm` or
 * `~/.cache/node-cllm`, `~/Library/Caches/node-cllm` (macOS), `%LOCALAPPDATA%\node-cllm\Cache` (Windows).
 */
export function cacheDirectory(env: NodeJS.ProcessEnv = process.env, platform: string = process.platform): string {
  if (env.CLLM_CACHE) return path.resolve(env.CLLM_CACHE);
  const home = os.homedir();
  if (platform === "win32") {
    return path.join(env.LOCALAPPDATA || path.join(home, "AppData", "Local"), "node-cllm", "Cache");
  }
  if (platform === "darwin") return path.join(home, "Library", "Caches", "node-cllm");
  // The XDG specification says that a relative path is invalid and must be ignored.
  const xdg = env.XDG_CACHE_HOME;
  return path.join(xdg && path.isAbsolute(xdg) ? xdg : path.join(home, ".cache"), "node-cllm");
}

/** Size of a file in bytes, or null where there is none. */
export async function sizeOf(file: string): Promise<number | null> {
  try {
    const stat = await fs.stat(file);
    return stat.isDirectory() ? null : stat.size;
  } catch {
    return null;
  }
}

/** True when the file exists and starts with `magic`. */
export async function startsWith(file: string, magic: string): Promise<boolean> {
  if (magic === "") return (await sizeOf(file)) !== null;
  let handle: fs.FileHandle | undefined;
  try {
    handle = await fs.open(file, "r");
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(magic.length), 0, magic.length, 0);
    return bytesRead === magic.length && buffer.toString("latin1") === magic;
  } catch {
    return false;
  } finally {
    await handle?.close();
  }
}

/** Throws where the disk lacks space for `bytes`. A file system that reports no figures is taken to have space. */
export async function requireSpace(what: string, directory: string, bytes: number): Promise<void> {
  const free = await freeBytes(directory);
  if (free === null || free >= bytes) return;
  throw new CllmError(
    "CLLM_PULL_FAILED",
    `Could not pull ${what}: ${formatBytes(bytes)} more are needed in ${directory} but only ${formatBytes(free)} are ` +
      `free. Free ${formatBytes(bytes - free)} or set CLLM_CACHE to another disk, then run the same command again.`,
  );
}

/** Turns a failure of the file system into an error that says what the user can do about it. */
export async function storageError(what: string, file: string, cause: unknown, keptBytes: number): Promise<CllmError> {
  const directory = path.dirname(file);
  const code = (cause as NodeJS.ErrnoException)?.code;
  let text: string;
  if (code === "ENOSPC" || code === "EDQUOT") {
    const free = await freeBytes(directory);
    text =
      `no space is left in ${directory}${free === null ? "" : ` (${formatBytes(free)} free)`}. ` +
      `Free some or set CLLM_CACHE to another disk, then run the same command again` +
      (keptBytes > 0 ? `: it resumes after the ${formatBytes(keptBytes)} that are here.` : ".");
  } else if (code === "EACCES" || code === "EPERM" || code === "EROFS") {
    text = `${directory} cannot be written to (${code}). Set CLLM_CACHE to a directory that can.`;
  } else {
    text = cause instanceof Error ? cause.message : String(cause);
  }
  return new CllmError("CLLM_PULL_FAILED", `Could not pull ${what}: ${text}`, { cause });
}

/** Writes a number of bytes as a text: 1234567 -> "1.2 MB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

async function freeBytes(directory: string): Promise<number | null> {
  try {
    const { bavail, bsize, blocks } = await fs.statfs(directory);
    return blocks === 0 ? null : bavail * bsize;
  } catch {
    return null;
  }
}
