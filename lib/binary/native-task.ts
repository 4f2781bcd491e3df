import type { Task } from "../addon.js";

type OnProgress = (fraction: number) => void;

/** What may end or watch a task, and what to do with a result that comes too late. */
export interface TaskControl<T> {
  signal: AbortSignal | null;
  onProgress: OnProgress | null;
  /** Frees the result of a task that had succeeded when it was to be cancelled. */
  discard?: (result: T) => void;
}

/**
 * Runs a task of the addon. An abort cancels it, and the promise rejects with the signal's reason; an error of
 * onProgress cancels it too, and is what the promise rejects with. Whichever came first counts.
 *
 * @param start begins the task, with the function that the addon is to call, or null
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
