import type { Task } from "../addon.js";

type OnProgress = (fraction: number) => void;

/** Ways to end and to watch a task. */
export interface TaskControl<T> {
  signal: AbortSignal | null;
  onProgress: OnProgress | null;
  /** Frees the result of a task that succeeded before it could be cancelled. */
  discard?: (result: T) => void;
}

/**
 * Runs a task of the addon. An abort cancels it, and the promise rejects with the signal's reason. An error that
 * onProgress throws cancels it too, and the promise rejects with that error. Whichever came first counts.
 *
 * @param start begins the task; its argument is the function that the addon calls with progress, or null
 */
export async function runTask<T>(
  start: (onProgress: OnProgress | null) => Task<T>,
  { signal, onProgress, discard }: TaskControl<T>,
): Promise<T> {
  signal?.throwIfAborted();
  let failure: { cause: unknown } | null = null;
  const report = (fraction: number): void => {
    if (failure !== null || signal?.aborted) return;
    try {
      onProgress?.(fraction);
    } catch (cause) {
      failure = { cause };
      task.cancel();
    }
  };
  const task = start(onProgress === null ? null : report);
  const cancel = (): void => task.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  const cancelled = (): boolean => failure !== null || signal?.aborted === true;
  try {
    const result = await task.promise;
    if (!cancelled()) return result;
    discard?.(result);
  } catch (error) {
    if (!cancelled()) throw error;
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
  throw failure === null ? signal?.reason : (failure as { cause: unknown }).cause;
}
