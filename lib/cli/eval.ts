import type { EvaluateResult } from "../eval/eval.js";
import { evaluate } from "../eval/eval.js";
import { readPromptData } from "../prompt-data.js";
import { writeWhole } from "./files.js";
import { EXIT, type Io, interruptible, write } from "./io.js";
import { withModel } from "./model.js";
import { Progress } from "./progress.js";

export interface EvalFlags {
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

/** `cllm eval`: what Jacobi decoding gains on a model, and what its answers are worth. */
export async function evalCommand(source: string, data: string, flags: EvalFlags, io: Io): Promise<number> {
  const results = await interruptible(io, async (signal) => {
    const items = spread(await readPromptData(data, false), flags.limit);
    const found: EvaluateResult[] = [];
    for (const model of [source, ...(flags.compare === undefined ? [] : [flags.compare])]) {
      await withModel(model, io, signal, async (loaded) => {
        const progress = new Progress(io);
        try {
          found.push(
            await evaluate(loaded, items, {
              blockSizes: flags.blockSizes,
              maxTokens: flags.maxTokens,
              rounds: flags.rounds,
              seed: flags.seed,
              threads: flags.threads,
              signal,
              onProgress: ({ done, total }) => progress.update(`prompt ${done} of ${total}`, done, total, "share"),
            }),
          );
        } finally {
          progress.stop();
        }
      });
    }
    return found;
  });
  if (flags.plot !== undefined) {
    const { plot } = await import("../eval/plot.js");
    await writeWhole(flags.plot, await plot(results));
  }
  const json = `${JSON.stringify(results)}\n`;
  if (flags.json === "-") await write(io.stdout, json);
  else if (flags.json !== undefined) await writeWhole(flags.json, json);
  if (flags.json !== "-") await write(io.stdout, results.map(table).join("\n"));
  return EXIT.ok;
}

/** `limit` items, evenly spread: data files are often sorted by subject. */
function spread<T>(items: readonly T[], limit = items.length): T[] {
  const count = Math.max(1, Math.min(limit, items.length));
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
