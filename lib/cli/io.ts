import type { Readable, Writable } from "node:stream";
import { CllmError } from "../errors.js";

/** What a command reads, writes and is stopped by: the process's own, or a test's. */
export interface Io {
  stdin: Readable & { isTTY?: boolean };
  stdout: Writable & { isTTY?: boolean };
  stderr: Writable & { isTTY?: boolean; columns?: number };
  /** Calls `listener` on every Ctrl-C (SIGINT) and on SIGTERM. Returns what removes it. */
  onInterrupt(listener: () => void): () => void;
}

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

export function processIo(): Io {
  const { stdin, stdout, stderr } = process;
  // Without a listener a reader that went away ends the process with a stack. `write` reports it to its caller.
  stdout.on("error", () => {});
  stderr.on("error", () => {});
  return {
    stdin,
    stdout,
    stderr,
    onInterrupt(listener) {
      process.on("SIGINT", listener).on("SIGTERM", listener);
      return () => void process.off("SIGINT", listener).off("SIGTERM", listener);
    },
  };
}

/** Writes and waits until the text has left: that is the back pressure, and where EPIPE shows. */
export function write(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

/**
 * Runs `work` with a signal that Ctrl-C aborts, so that it can end in order: text flushed, temporary files removed. A
 * second Ctrl-C ends the process at once.
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

/** True for what a write fails with when nobody reads stdout any more (Windows has a word of its own). */
export function readerIsGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException)?.code ?? "";
  return ["EPIPE", "EOF", "ERR_STREAM_DESTROYED"].includes(code);
}

/** The line for the user, and the exit code. Null text: nothing to say. */
export function describeError(error: unknown, verbose: boolean): { code: number; text: string | null } {
  if (error instanceof Interrupted) return { code: EXIT.interrupted, text: null };
  if (readerIsGone(error)) return { code: EXIT.ok, text: null };
  if (!(error instanceof Error)) return { code: EXIT.failure, text: `cllm: ${String(error)}` };
  // The library's own validation ("Expected a positive integer for maxTokens ...") speaks of what the user typed.
  const mistake = (error instanceof TypeError || error instanceof RangeError) && error.message.startsWith("Expected ");
  const code = mistake || error instanceof UsageError ? EXIT.usage : EXIT.failure;
  let text = `cllm: ${error.message}`;
  if (verbose) {
    text = `cllm: ${error instanceof CllmError ? `[${error.code}] ` : ""}${error.stack}`;
    for (let cause = error.cause; cause !== undefined; cause = cause instanceof Error ? cause.cause : undefined) {
      text += `\nCaused by: ${cause instanceof Error ? cause.stack : String(cause)}`;
    }
  }
  return { code, text };
}
