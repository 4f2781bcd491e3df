import { distill } from "../distill/distill.js";
import type { DistillOptions, DistillProgress } from "../distill/options.js";
import { EXIT, type Io, interruptible, UsageError, write } from "./io.js";
import { modelPath } from "./model.js";
import { Progress } from "./progress.js";

export type DistillFlags = Omit<DistillOptions, "onProgress" | "signal" | "type"> & {
  json?: boolean;
  prompts?: string;
  type?: string;
};

/** `cllm distill`: a consistency LLM from any small GGUF. */
export async function distillCommand(source: string, flags: DistillFlags, io: Io): Promise<number> {
  const { json, prompts, ...options } = flags;
  if (prompts === undefined) throw new UsageError("There are no prompts: name a file with --prompts.");
  if (options.out === undefined) throw new UsageError("There is no output: name a file with --out.");
  const result = await interruptible(io, async (signal) => {
    const base = await modelPath(source, io, signal);
    const show = new Reporter(io);
    try {
      const type = options.type?.toUpperCase() as DistillOptions["type"];
      return await distill(base, prompts, { ...options, type, signal, onProgress: (event) => show.event(event) });
    } finally {
      show.stop();
    }
  });
  const { figures } = result;
  if (json) await write(io.stdout, `${JSON.stringify(result)}\n`);
  else {
    await write(
      io.stderr,
      `${result.out}: ${figures.tokensPerIteration.toFixed(2)} tokens per iteration on ${result.heldBack} held-back prompts; ` +
        `${percent(figures.equalToOrdinary)} of the answers equal to ordinary decoding, ` +
        `${percent(figures.exact)} to those trained for (${duration(result.seconds)})\n`,
    );
  }
  return EXIT.ok;
}

/** Seconds between two lines where stderr is no terminal: a log shows how a long run went. */
const LOG_SECONDS = 30;

/** A bar in a terminal, a line now and then elsewhere. */
class Reporter {
  readonly #progress: Progress;
  #logged = 0;
  #stage = "";

  constructor(readonly io: Io) {
    this.#progress = new Progress(io);
  }

  event(event: DistillProgress): void {
    const text = line(event);
    this.#progress.update(text, event.done, Math.max(1, event.total), "share");
    const due = Date.now() - this.#logged >= LOG_SECONDS * 1000 || event.stage !== this.#stage;
    if (this.io.stderr.isTTY || !due) return;
    this.#logged = Date.now();
    this.#stage = event.stage;
    this.io.stderr.write(`${text}\n`);
  }

  stop(): void {
    this.#progress.stop();
  }
}

const STAGES = {
  tokenise: "prompts as tokens",
  answers: "the model's own answers",
  ar: "training on the answers",
  consistency: "consistency training",
  evaluate: "held-back prompts",
  write: "writing",
};

function line(event: DistillProgress): string {
  const parts = [`${STAGES[event.stage]} ${event.done}/${event.total}`];
  if (event.answerLoss !== null) parts.push(`loss ${event.answerLoss.toFixed(3)}`);
  if (event.blockLoss !== null) parts.push(`blocks ${event.blockLoss.toFixed(3)}`);
  if (event.tokensPerIteration !== null) parts.push(`${event.tokensPerIteration.toFixed(2)} tokens/iteration`);
  if (event.tokensPerSecond > 0) parts.push(`${Math.round(event.tokensPerSecond)} tokens/s`);
  if (event.secondsLeft !== null && event.secondsLeft > 0) parts.push(`${duration(event.secondsLeft)} left`);
  return parts.join(", ");
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

const percent = (share: number) => `${Math.round(share * 100)}%`;
