import fs from "node:fs/promises";
import type { Command } from "commander";
import { formatBytes } from "../pull/cache.js";
import { quantize } from "../quantize.js";
import { interruptible } from "./exit.js";
import { type Io, write } from "./io.js";
import { modelPath } from "./model.js";
import { withProgressBar } from "./progress-bar.js";
import { MODEL_HELP, threadsOption } from "./shared-options.js";
import { COMMON_FORMATS } from "./weight-formats.js";

interface QuantizeFlags {
  json?: boolean;
  requantize?: boolean;
  threads?: number;
}

/** Adds `cllm quantize`, which writes a model in another format; the format decides what a block of tokens costs. */
export function addQuantizeCommand(program: Command, io: Io): void {
  program
    .command("quantize")
    .description("write a model in another format, with llama.cpp's quantiser")
    .argument("<in>", MODEL_HELP)
    .argument("<out>", "file to write; one that exists is replaced once the new one is complete")
    .argument("<type>", `${COMMON_FORMATS.join(", ")}, or another name that llama.cpp knows`)
    .addOption(threadsOption)
    .option("--no-requantize", "refuse a file that is quantised already, from which a little quality is lost")
    .option("--json", "print an object with paths and sizes")
    .action((input: string, output: string, type: string, flags: QuantizeFlags) =>
      quantizeModel(input, output, type, flags, io),
    );
}

async function quantizeModel(
  model: string,
  output: string,
  type: string,
  { json, requantize, threads }: QuantizeFlags,
  io: Io,
): Promise<void> {
  const input = await interruptible(io, async (signal) => {
    const path = await modelPath(model, io, signal);
    await withProgressBar(io, (bar) => {
      const onProgress = (fraction: number): void => bar.update("quantizing", fraction, 1);
      return quantize(path, output, type, { signal, threads, onProgress, allowRequantize: requantize });
    });
    return path;
  });
  const [before, after] = await Promise.all([fs.stat(input), fs.stat(output)]);
  if (json) {
    const result = { input, output, type: type.toUpperCase(), inputBytes: before.size, outputBytes: after.size };
    await write(io.stdout, `${JSON.stringify(result)}\n`);
  } else {
    await write(io.stderr, `${output}: ${formatBytes(after.size)} (from ${formatBytes(before.size)})\n`);
  }
}
