import { SingleBar } from "cli-progress";
import { formatBytes } from "../pull/cache.js";
import type { PullProgress } from "../pull/pull.js";
import type { Io } from "./io.js";

/** Runs `work` with a progress bar on stderr, which is cleared at its end. */
export async function withProgressBar<T>(io: Io, work: (bar: ProgressBar) => Promise<T>): Promise<T> {
  const bar = new ProgressBar(io);
  try {
    return await work(bar);
  } finally {
    bar.stop();
  }
}

/** A progress bar that prints nothing where stderr is not a terminal, because logs have no use for bars. */
export class ProgressBar {
  readonly #io: Io;
  #bar: SingleBar | null = null;
  #text = "";

  constructor(io: Io) {
    this.#io = io;
  }

  /** Shows the share `done / total`, or the text alone where `total` is null. */
  update(text: string, done: number, total: number | null): void {
    if (!this.#io.stderr.isTTY) return;
    const share = total === null || total === 0 ? null : Math.min(done / total, 1);
    this.#text = text;
    if (this.#bar === null) {
      this.#bar = new SingleBar({
        stream: this.#io.stderr as NodeJS.WriteStream,
        clearOnComplete: true,
        hideCursor: false,
        linewrap: false,
        fps: 10,
        format: (_options, params) => (params.total === 0 ? this.#text : `${meter(params)}  ${this.#text}`),
      });
      this.#bar.start(0, 0);
    }
    this.#bar.setTotal(share === null ? 0 : 1000);
    this.#bar.update(share === null ? 0 : Math.floor(share * 1000));
  }

  updatePull({ phase, file, received, total }: PullProgress): void {
    if (phase === "wait") {
      this.update(`waiting for another process that pulls ${file}`, 0, null);
      return;
    }
    const activity = { download: "pulling", verify: "checking", extract: "unpacking" }[phase];
    const bytes = `${formatBytes(received)}${total === null ? "" : ` of ${formatBytes(total)}`}`;
    this.update(`${activity} ${file}  ${bytes}`, received, total);
  }

  /** Clears the bar and stops its timer, which would keep the process alive. */
  stop(): void {
    this.#bar?.stop();
    this.#bar = null;
  }
}

function meter({ progress, eta }: { progress: number; eta: number | string }): string {
  const width = 24;
  const filled = Math.round(progress * width);
  const isKnown = typeof eta === "number" && Number.isFinite(eta) && progress < 1 && eta > 0;
  const remaining = isKnown ? `${Math.ceil(eta)} s` : "";
  const percent = `${Math.floor(progress * 100)}%`.padStart(4);
  return `[${"=".repeat(filled)}${" ".repeat(width - filled)}] ${percent} ${remaining.padStart(6)}`;
}
