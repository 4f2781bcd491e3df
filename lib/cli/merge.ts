import fs from "node:fs/promises";
import type { Command } from "commander";
import { merge } from "../merge.js";
import { formatBytes } from "../pull/cache.js";
import { interruptible } from "./exit.js";
import { type Io, write } from "./io.js";
import { modelPath } from "./model.js";
import { withProgressBar } from "./progress-bar.js";
import { adapter, MODEL_HELP, threadsOption } from "./shared-options.js";

interface MergeFlags {
  json?: boolean;
  threads?: number;
}

/** Adds `cllm merge`, which writes a model with LoRA adapters merged in. */
export function addMergeCommand(program: Command, io: Io): void {
  program
    .command("merge")
    .description("write a model with LoRA adapters merged into its weights")
    .argument("<base>", MODEL_HELP)
    .argument("<out>", "file to write; one that exists is replaced once the new one is complete")
    .argument("<adapters...>", "GGUF files of adapters, each as FILE or FILE=SCALE")
    .addOption(threadsOption)
    .option("--json", "print an object with path and size")
    .action((base: string, output: string, adapters: string[], flags: MergeFlags) =>
      mergeModel(base, output, adapters, flags, io),
    );
}

async function mergeModel(
  model: string,
  output: string,
  files: string[],
  { json, threads }: MergeFlags,
  io: Io,
): Promise<void> {
  await interruptible(io, async (signal) => {
    const base = await modelPath(model, io, signal);
    await withProgressBar(io, (bar) => {
      const onProgress = (fraction: number): void => bar.update("merging", fraction, 1);
      return merge(base, output, { adapters: files.map(adapter), signal, threads, onProgress });
    });
  });
  const { size } = await fs.stat(output);
  if (json) await write(io.stdout, `${JSON.stringify({ path: output, bytes: size })}\n`);
  else await write(io.stderr, `${output}: ${formatBytes(size)}\n`);
}
