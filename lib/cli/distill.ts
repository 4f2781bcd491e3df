import type { Command } from "commander";
import { type DistillResult, distill } from "../distill/distill.js";
import type { DistillOptions, DistillProgress } from "../distill/options.js";
import { DISTILL_DEFAULTS as DEFAULTS } from "../limits.js";
import { interruptible } from "./exit.js";
import { type Io, write } from "./io.js";
import { modelPath } from "./model.js";
import { ProgressBar } from "./progress-bar.js";
import {
  blockSizeOption,
  MODEL_HELP,
  maxTokensOption,
  number,
  PROMPT_DATA_HELP,
  seedOption,
  threadsOption,
} from "./shared-options.js";

type DistillFlags = Omit<DistillOptions, "onProgress" | "signal" | "type"> & {
  json?: boolean;
  prompts: string;
  type?: string;
};

/** Adds `cllm distill`, which makes a consistency LLM of a small GGUF. DistillOptions has the ranges. */
export function addDistillCommand(program: Command, io: Io): void {
  const orDefault = (name: keyof typeof DEFAULTS) => `(default ${DEFAULTS[name]})`;
  const command = program
    .command("distill")
    .description("train a model into a consistency LLM (CLLM), whose blocks converge in few passes")
    .argument("<base>", MODEL_HELP)
    .requiredOption("--prompts <file>", PROMPT_DATA_HELP)
    .requiredOption("--out <file>", "GGUF to write; OUT.training holds the checkpoint meanwhile")
    .option(
      "--answers <own|given>",
      `train on the model's own greedy answers, or on those given in the data ${orDefault("answers")}`,
    )
    .addOption(maxTokensOption("longest own answer (default: what a training row holds)"))
    .addOption(blockSizeOption(`tokens of a draft block n ${orDefault("blockSize")}`))
    .option("--train-embeddings", "train token embeddings and output matrix too")
    .option("--precision <bf16|f32>", "format of matrix products (default: bf16 where the CPU has it, f32 on a GPU)")
    .option("--type <type>", `format of the file: F32, BF16, Q8_0, Q4_0 ${orDefault("type")}`)
    .addOption(seedOption(`seed of order, drafts and adapters ${orDefault("seed")}`))
    .addOption(threadsOption)
    .option("--resume", "go on from the checkpoint of an interrupted run")
    .option("--adapter <file>", "GGUF to write the adapters alone to, with --lora")
    .option("--note <text>", "text for the file's metadata")
    .option("--json", "print an object with the figures")
    .action((base: string, flags: DistillFlags) => distillModel(base, flags, io));
  for (const [option, description, name] of NUMBERS) {
    command.option(option, `${description} ${orDefault(name)}`, number);
  }
}

const NUMBERS: [option: string, description: string, name: keyof typeof DEFAULTS][] = [
  ["--epochs <count>", "passes over the data in consistency training", "epochs"],
  ["--ar-epochs <count>", "passes over the data in AR training, which comes first", "arEpochs"],
  ["--row-tokens <count>", "tokens of a training row", "rowTokens"],
  ["--batch <rows>", "rows per optimiser step", "batch"],
  ["--clean-share <share>", "share of a row for prompts and answers", "cleanShare"],
  ["--pool <rows>", "rows in training at a time", "pool"],
  ["--row-steps <count>", "steps that a row stays in the pool", "rowSteps"],
  ["--ar-weight <weight>", "weight of the AR loss", "arWeight"],
  ["--consistency-weight <weight>", "weight of the consistency loss", "consistencyWeight"],
  ["--soft-share <share>", "share of the consistency loss against soft targets", "softShare"],
  ["--decay <factor>", "weight of a block position over that of the one before", "decay"],
  ["--learning-rate <rate>", "peak learning rate of consistency training", "learningRate"],
  ["--ar-learning-rate <rate>", "peak learning rate of AR training", "arLearningRate"],
  ["--weight-decay <rate>", "AdamW's decay of matrices", "weightDecay"],
  ["--clip <norm>", "largest norm of the gradient; 0 is no limit", "clip"],
  ["--lora <rank>", "rank of adapters, merged at the end; 0 trains all weights", "lora"],
  ["--held-back <count>", "prompts to measure with, which are not trained on", "heldBack"],
  ["--checkpoint-minutes <minutes>", "minutes between checkpoints", "checkpointMinutes"],
];

async function distillModel(source: string, flags: DistillFlags, io: Io): Promise<void> {
  const { json, prompts, ...options } = flags;
  const result = await interruptible(io, async (signal) => {
    const base = await modelPath(source, io, signal);
    const reporter = new Reporter(io);
    try {
      const type = options.type?.toUpperCase() as DistillOptions["type"];
      return await distill(base, prompts, { ...options, type, signal, onProgress: (event) => reporter.report(event) });
    } finally {
      reporter.stop();
    }
  });
  await (json ? write(io.stdout, `${JSON.stringify(result)}\n`) : write(io.stderr, summary(result)));
}

function summary({ out, figures, heldBack, seconds }: DistillResult): string {
  return (
    `${out}: ${figures.tokensPerIteration.toFixed(2)} tokens per iteration on ${heldBack} held-back prompts; ` +
    `${percent(figures.equalToOrdinary)} of the answers equal to ordinary decoding, ` +
    `${percent(figures.exact)} to those trained for (${duration(seconds)})\n`
  );
}

/** Seconds between two lines where stderr is no terminal, so that a log shows how a long run went. */
const LOG_SECONDS = 30;

/** Reports progress on stderr: as a bar in a terminal, as a line now and then elsewhere. */
class Reporter {
  readonly #io: Io;
  readonly #bar: ProgressBar;
  #loggedAt = 0;
  #stage = "";

  constructor(io: Io) {
    this.#io = io;
    this.#bar = new ProgressBar(io);
  }

  report(event: DistillProgress): void {
    const text = progressLine(event);
    this.#bar.update(text, event.done, Math.max(1, event.total));
    const isDue = Date.now() - this.#loggedAt >= LOG_SECONDS * 1000 || event.stage !== this.#stage;
    if (this.#io.stderr.isTTY || !isDue) return;
    this.#loggedAt = Date.now();
    this.#stage = event.stage;
    this.#io.stderr.write(`${text}\n`);
  }

  stop(): void {
    this.#bar.stop();
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

function progressLine(event: DistillProgress): string {
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
