import { randomUUID } from "node:crypto";
import fs from "node:fs/promises";
import os from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { tuning } from "./tuning.js";

/**
 * Takes `<file>.lock`, so that one process at a time writes the file; the others wait and then find it finished. Resolves
 * to a function that releases the lock.
 *
 * Node has no flock(), so a lock can outlive its holder. It counts as stale when the holder's process on this machine
 * is gone, or when its modification time has not moved for `tuning.lockStale` of the *waiter's* clock (clocks of two
 * machines on one network disk may differ). A stale lock is taken over under a second lock: otherwise two waiters could
 * both find it stale, and the slower one would delete the new lock of the faster one.
 *
 * A holder that was only suspended does no harm when it goes on after its lock was taken over: downloads write the same
 * bytes at the same offsets (they resume only what the server says is unchanged), and the result is checked before it is
 * renamed.
 */
export async function lock(file: string, signal?: AbortSignal, onWait?: () => void): Promise<() => Promise<void>> {
  const path = `${file}.lock`;
  const token = JSON.stringify({ pid: process.pid, host: os.hostname(), id: randomUUID() });
  const watch = { mtime: -1, since: 0 };
  while (!(await create(path, token))) {
    signal?.throwIfAborted();
    if (await isStale(path, watch)) {
      await takeOver(path, watch);
      continue;
    }
    onWait?.();
    await sleep(tuning.lockPoll, undefined, { signal }).catch((error: unknown) => {
      throw signal?.aborted ? signal.reason : error;
    });
  }
  const timer = setInterval(() => {
    const now = new Date();
    fs.utimes(path, now, now).catch(() => {});
  }, tuning.lockTouch);
  timer.unref();
  return async () => {
    clearInterval(timer);
    if ((await read(path)) === token) await fs.rm(path, { force: true });
  };
}

async function create(path: string, token: string): Promise<boolean> {
  try {
    await fs.writeFile(path, token, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    // A lock that could be created but not filled (disk full) must not stay behind.
    if ((error as NodeJS.ErrnoException).code === "ENOSPC") await fs.rm(path, { force: true });
    throw error;
  }
}

async function isStale(path: string, watch: { mtime: number; since: number }): Promise<boolean> {
  let mtime: number;
  try {
    mtime = (await fs.stat(path)).mtimeMs;
  } catch {
    return false; // it was just released
  }
  const now = performance.now();
  if (mtime !== watch.mtime) {
    watch.mtime = mtime;
    watch.since = now;
  }
  return now - watch.since > tuning.lockStale || holderIsGone(await read(path));
}

function holderIsGone(token: string | null): boolean {
  try {
    const { pid, host } = JSON.parse(token ?? "") as { pid: number; host: string };
    if (host !== os.hostname()) return false;
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}

async function takeOver(path: string, watch: { mtime: number; since: number }): Promise<void> {
  const guard = `${path}.takeover`;
  if (!(await create(guard, ""))) {
    // The guard is held for microseconds, unless its process died meanwhile. Then it is removed, too.
    const age = Date.now() - (await fs.stat(guard).then((s) => s.mtimeMs, Date.now));
    if (age > tuning.lockStale) await fs.rm(guard, { force: true });
    await sleep(tuning.lockPoll);
    return;
  }
  try {
    if (await isStale(path, watch)) await fs.rm(path, { force: true });
  } finally {
    await fs.rm(guard, { force: true });
  }
}

async function read(path: string): Promise<string | null> {
  return fs.readFile(path, "utf8").catch(() => null);
}
