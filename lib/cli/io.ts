import type { Readable, Writable } from "node:stream";

/** What a command reads and writes, and what interrupts it: the process's own, or a test's. */
export interface Io {
  stdin: Readable & { isTTY?: boolean };
  stdout: Writable & { isTTY?: boolean };
  stderr: Writable & { isTTY?: boolean; columns?: number };
  /** Calls `listener` on every Ctrl-C (SIGINT) and on SIGTERM. Returns a function that removes it. */
  onInterrupt(listener: () => void): () => void;
}

export function processIo(): Io {
  const { stdin, stdout, stderr } = process;
  // Without a listener a reader that went away would end the process with a stack. `write` reports it to its caller.
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

/** Writes and waits until the text has left. So a slow reader slows the writer, and a gone one is an error (EPIPE). */
export function write(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

/** True for the error of a write when nobody reads stdout any more (Windows has a code of its own). */
export function readerIsGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException)?.code ?? "";
  return ["EPIPE", "EOF", "ERR_STREAM_DESTROYED"].includes(code);
}
