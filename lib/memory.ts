import os from "node:os";
import { CllmError } from "./errors.js";

/** Bytes that this process may still take: free memory of the machine, or of its container if that is less. */
export function availableMemory(): number {
  const free = os.freemem();
  // Node >= 22; 0 or undefined where no limit is known.
  const available = (process as { availableMemory?: () => number }).availableMemory?.();
  return available ? Math.min(free, available) : free;
}

/**
 * Refuses what cannot fit before anything is allocated: Linux hands out memory it does not have and kills the process
 * later, when the cache is cleared.
 *
 * @throws {@link CllmError} `CLLM_OUT_OF_MEMORY`
 */
export function checkMemory(needed: number, what: string): void {
  const available = availableMemory();
  if (needed <= available) return;
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  throw new CllmError(
    "CLLM_OUT_OF_MEMORY",
    `Expected ${what} to fit into memory but it needs ${gib(needed)} and ${gib(available)} are available: ` +
      "use a smaller contextSize, fewer lanes or a quantised kvType",
  );
}
