import type { Readable, Writable } from "node:stream";

/** Streams and interrupts of a command: those of the process, or a test's own. */
export interface Io {
  stdin: Readable & { isTTY?: boolean };
  stdout: Writable & { isTTY?: boolean };
  stderr: Writable & { isTTY?: boolean; columns?: number };
  /** Calls `listener` on every Ctrl-C (SIGINT) and on SIGTERM. Returns a function that removes it. */
  onInterrupt(listener: () => void): () => void;
}

export function processIo(): Io {
  const { stdin, stdout, stderr } = process;
  // Without a listener a reader that went away would end the process with a stack trace. write() reports the error to its
  // caller.
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

/** Writes, and waits until the text has left. So a slow reader slows the writer, and a reader that is gone is an error. */
export function write(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

/** True for the error of a write to a stdout that nobody reads any more. EPIPE is EOF on Windows. */
export function readerIsGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException)?.code ?? "";
  return ["EPIPE", "EOF", "ERR_STREAM_DESTROYED"].includes(code);
}
