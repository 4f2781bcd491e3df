import { CllmError } from "../errors.js";
import { type Io, readerIsGone } from "./io.js";

/** The exit codes of `cllm`. A reader of stdout that goes away (`cllm generate ... | head -1`) is no failure. */
export const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const;

/** The command line is wrong in a way that commander cannot see. */
export class UsageError extends Error {}

/** The user stopped the command. */
export class Interrupted extends Error {
  constructor() {
    super("Interrupted");
  }
}

/**
 * Runs `work` with a signal that Ctrl-C aborts, so that it can end in order, with text flushed and temporary files
 * removed. A second Ctrl-C ends the process at once.
 */
export async function interruptible<T>(io: Io, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const remove = io.onInterrupt(() => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    controller.abort(new Interrupted());
  });
  try {
    return await work(controller.signal);
  } catch (error) {
    throw controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    remove();
  }
}

/** The exit code of an error, and the text for the user, which is null when there is nothing to say. */
export function describeError(error: unknown, verbose: boolean): { code: number; text: string | null } {
  if (error instanceof Interrupted) return { code: EXIT.interrupted, text: null };
  if (readerIsGone(error)) return { code: EXIT.ok, text: null };
  if (!(error instanceof Error)) return { code: EXIT.failure, text: `cllm: ${String(error)}` };
  // The library's own validation ("Expected a positive integer for maxTokens ...") is about what the user typed.
  const isMistake =
    (error instanceof TypeError || error instanceof RangeError) && error.message.startsWith("Expected ");
  const code = isMistake || error instanceof UsageError ? EXIT.usage : EXIT.failure;
  let text = `cllm: ${error.message}`;
  if (verbose) {
    text = `cllm: ${error instanceof CllmError ? `[${error.code}] ` : ""}${error.stack}`;
    for (let cause = error.cause; cause !== undefined; cause = cause instanceof Error ? cause.cause : undefined) {
      text += `\nCaused by: ${cause instanceof Error ? cause.stack : String(cause)}`;
    }
  }
  return { code, text };
}
