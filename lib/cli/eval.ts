import type { Command } from "commander";
import { type EvaluateResult, evaluate } from "../eval/eval.js";
import { DEFAULT_EVALUATED_BLOCK_SIZES, DEFAULT_EVALUATED_TOKENS } from "../limits.js";
import { integer } from "../options.js";
import { type PromptItem, readPromptData } from "../prompt-data.js";
import { interruptible } from "./exit.js";
import { type Io, write } from "./io.js";
import { withModel } from "./model.js";
import { checkOutputFile, writeOutputFile } from "./output-file.js";
import { withProgressBar } from "./progress-bar.js";
import {
  MODEL_HELP,
  maxTokensOption,
  number,
  numbers,
  PROMPT_DATA_HELP,
  seedOption,
  threadsOption,
} from "./shared-options.js";

interface EvalFlags {
  blockSizes?: number[];
  compare?: string;
  json?: string;
  limit?: number;
  maxTokens?: number;
  plot?: string;
  rounds?: number;
  seed?: number;
  threads?: number;
}

/** Adds `cllm eval`, which measures what Jacobi decoding gains on a model, and how good its answers are. */
export function addEvalCommand(program: Command, io: Io): void {
  const blockSizes = `block sizes; 1 is always among them (default ${DEFAULT_EVALUATED_BLOCK_SIZES.join()})`;
  program
    .command("eval")
    .description("tokens per iteration, speed and answers of a model, over prompts and block sizes")
    .argument("<model>", MODEL_HELP)
    .argument("<data>", PROMPT_DATA_HELP)
    .option("-b, --block-sizes <n,n,...>", blockSizes, numbers)
    .addOption(maxTokensOption(`longest answer (default ${DEFAULT_EVALUATED_TOKENS})`))
    .option("--limit <count>", "number of prompts, evenly spread over the data (default: all)", number)
    .option("--rounds <count>", "times that each answer is timed (default 1)", number)
    .option("--compare <model>", "measure this model too, such as the base")
    .option("--json <file>", "write the figures as JSON; - prints them instead of the table")
    .option("--plot <file.svg>", "draw curves over the block size")
    .addOption(threadsOption)
    .addOption(seedOption("seed of the random first draft (default 0)"))
    .action((model: string, data: string, flags: EvalFlags) => evaluateModels(model, data, flags, io));
}

async function evaluateModels(source: string, data: string, flags: EvalFlags, io: Io): Promise<void> {
  const { compare, json, plot } = flags;
  const limit = integer(flags.limit, "limit", 1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  if (plot !== undefined) await checkOutputFile("--plot", plot);
  if (json !== undefined && json !== "-") await checkOutputFile("--json", json);
  const results = await interruptible(io, async (signal) => {
    const items = evenlySpread(await readPromptData(data, false), limit);
    const results: EvaluateResult[] = [];
    for (const model of compare === undefined ? [source] : [source, compare]) {
      results.push(await evaluateModel(model, items, flags, io, signal));
    }
    return results;
  });
  if (plot !== undefined) {
    const { plotSvg } = await import("../eval/plot.js");
    await writeOutputFile(plot, await plotSvg(results));
  }
  const text = `${JSON.stringify(results)}\n`;
  if (json !== undefined && json !== "-") await writeOutputFile(json, text);
  await write(io.stdout, json === "-" ? text : results.map(table).join("\n"));
}

function evaluateModel(
  source: string,
  items: readonly PromptItem[],
  { blockSizes, maxTokens, rounds, seed, threads }: EvalFlags,
  io: Io,
  signal: AbortSignal,
): Promise<EvaluateResult> {
  return withModel(source, io, { signal }, (model) =>
    withProgressBar(io, (bar) => {
      const onProgress = ({ done, total }: { done: number; total: number }): void =>
        bar.update(`prompt ${done} of ${total}`, done, total);
      return evaluate(model, items, { blockSizes, maxTokens, rounds, seed, threads, signal, onProgress });
    }),
  );
}

/** Picks at most `limit` items, evenly spread, because data files are often sorted by subject. */
function evenlySpread<T>(items: readonly T[], limit: number): T[] {
  const count = Math.min(limit, items.length);
  return Array.from({ length: count }, (_, i) => items[Math.floor(((i + 0.5) * items.length) / count)] as T);
}

const COLUMNS: [string, (row: EvaluateResult["rows"][number]) => string][] = [
  ["n", (row) => String(row.blockSize)],
  ["tokens/iteration", (row) => row.tokensPerIteration.toFixed(2)],
  ["fast-forwarded/block", (row) => row.fastForwardedPerBlock.toFixed(2)],
  ["stationary/block", (row) => row.stationaryPerBlock.toFixed(2)],
  ["tokens/s", (row) => row.tokensPerSecond.toFixed(0)],
  ["speed-up", (row) => row.speedUp.toFixed(2)],
  ["equal to n = 1", (row) => percent(row.equal)],
  ["exact match", (row) => (row.exact === null ? "-" : percent(row.exact))],
];

function table(result: EvaluateResult): string {
  const lines = [COLUMNS.map(([title]) => title), ...result.rows.map((row) => COLUMNS.map(([, value]) => value(row)))];
  const widths = COLUMNS.map((_, i) => Math.max(...lines.map((line) => (line[i] as string).length)));
  const body = lines.map((line) => line.map((cell, i) => cell.padStart(widths[i] as number)).join("  "));
  const perplexity = result.perplexity === null ? "" : `, perplexity of the answers ${result.perplexity.toFixed(3)}`;
  return `${result.path}: ${result.model}, ${result.prompts} prompts, ${result.threads} threads${perplexity}\n${body.join("\n")}\n`;
}

const percent = (share: number) => `${(share * 100).toFixed(1)}%`;
