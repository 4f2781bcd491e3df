import { SingleBar } from "cli-progress";
import { formatBytes } from "../pull/cache.js";
import type { PullProgress } from "../pull/pull.js";
import type { Io } from "./io.js";

/**
 * One progress bar on stderr, cleared when done. Silent when stderr is not a terminal: logs have no use for bars.
 * Always `stop()` it: its timer keeps the process alive.
 */
export class Progress {
  private bar: SingleBar | null = null;
  private text = "";

  constructor(private readonly io: Io) {}

  /** `done` of `total`; null where the total is not known. `unit`: "bytes", or a share of 1. */
  update(label: string, done: number, total: number | null, unit: "bytes" | "share"): void {
    if (!this.io.stderr.isTTY) return;
    const share = total === null || total === 0 ? null : Math.min(done / total, 1);
    this.text = label;
    if (unit === "bytes") this.text += `  ${formatBytes(done)}${total === null ? "" : ` of ${formatBytes(total)}`}`;
    if (this.bar === null) {
      this.bar = new SingleBar({
        stream: this.io.stderr as NodeJS.WriteStream,
        clearOnComplete: true,
        hideCursor: false,
        linewrap: false,
        fps: 10,
        format: (_options, params) => (params.total === 0 ? this.text : `${meter(params)}  ${this.text}`),
      });
      this.bar.start(0, 0);
    }
    this.bar.setTotal(share === null ? 0 : 1000);
    this.bar.update(share === null ? 0 : Math.floor(share * 1000));
  }

  pull(progress: PullProgress): void {
    const { phase, file, received, total } = progress;
    if (phase === "wait") this.update(`waiting for another process that pulls ${file}`, 0, null, "share");
    else
      this.update(
        `${phase === "download" ? "pulling" : phase === "verify" ? "checking" : "unpacking"} ${file}`,
        received,
        total,
        "bytes",
      );
  }

  stop(): void {
    this.bar?.stop();
    this.bar = null;
  }
}

function meter({ progress, eta }: { progress: number; eta: number | string }): string {
  const width = 24;
  const full = Math.round(progress * width);
  const left = typeof eta === "number" && Number.isFinite(eta) && progress < 1 && eta > 0 ? `${Math.ceil(eta)} s` : "";
  const percent = `${Math.floor(progress * 100)}%`.padStart(4);
  return `[${"=".repeat(full)}${" ".repeat(width - full)}] ${percent} ${left.padStart(6)}`;
}
