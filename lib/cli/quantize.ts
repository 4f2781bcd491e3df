import fs from "node:fs/promises";
import { formatBytes } from "../pull/cache.js";
import { quantize } from "../quantize.js";
import { EXIT, type Io, interruptible, write } from "./io.js";
import { modelPath } from "./model.js";
import { Progress } from "./progress.js";

export interface QuantizeFlags {
  json?: boolean;
  requantize?: boolean;
  threads?: number;
}

/** `cllm quantize`: another file format, which decides what a block of tokens costs. */
export async function quantizeCommand(
  input: string,
  output: string,
  type: string,
  flags: QuantizeFlags,
  io: Io,
): Promise<number> {
  const path = await interruptible(io, async (signal) => {
    const from = await modelPath(input, io, signal);
    const progress = new Progress(io);
    try {
      await quantize(from, output, type, {
        signal,
        onProgress: (fraction) => progress.update("quantizing", fraction, 1, "share"),
        allowRequantize: flags.requantize,
        threads: flags.threads,
      });
    } finally {
      progress.stop();
    }
    return from;
  });
  const [before, after] = await Promise.all([fs.stat(path), fs.stat(output)]);
  if (flags.json) {
    const result = { input: path, output, type: type.toUpperCase(), inputBytes: before.size, outputBytes: after.size };
    await write(io.stdout, `${JSON.stringify(result)}\n`);
  } else {
    await write(io.stderr, `${output}: ${formatBytes(after.size)} (from ${formatBytes(before.size)})\n`);
  }
  return EXIT.ok;
}
